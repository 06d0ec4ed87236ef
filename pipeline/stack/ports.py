"""The ports of the stack, looked at before anything is started."""

from __future__ import annotations

from pipeline.exit_codes import BadConfiguration
from pipeline.settings import Settings
from pipeline.stack.processes import describe, port_holder, port_is_free, stack_of
from pipeline.stack.services import Service

PORT_SETTING = {
    "airflow-api-server": "WARMSTART_AIRFLOW_PORT",
    "airflow-log-server": "WARMSTART_LOG_PORT",
    "mlflow": "WARMSTART_MLFLOW_PORT",
}


def check(settings: Settings, table: list[Service], running: set[str]) -> None:
    """Every service that is about to start finds its port free.

    Raises:
        BadConfiguration: names every port that is not, who holds it, and what to do.
    """
    wrong = problems(settings, [service for service in table if service.name not in running])
    if wrong:
        raise BadConfiguration(" ".join(wrong))


def problems(settings: Settings, table: list[Service]) -> list[str]:
    """One sentence for each port that a service of `table` cannot have."""
    found = []
    taken: dict[int, str] = {}
    for service in table:
        if service.port is None:
            continue
        name = PORT_SETTING[service.name]
        if other := taken.get(service.port):
            found.append(f"Port {service.port} is given to both {other} and {name}: choose another for one of them.")
        taken[service.port] = name
        try:
            free = port_is_free(settings.host, service.port)
        except (OSError, OverflowError) as error:
            found.append(f"{service.name} cannot listen on {settings.host}:{service.port} ({error}): set {name}.")
            continue
        if not free:
            found.append(
                f"Port {service.port} of {service.name} is in use by {holder(service.port)}; "
                f"{advice(service.port, name)}."
            )
    return found


def holder(port: int) -> str:
    """The process that has the port, for people."""
    process = port_holder(port)
    return describe(process) if process else "a process that this user may not see"


def advice(port: int, setting: str) -> str:
    """How to get the port, or another one."""
    process = port_holder(port)
    home = stack_of(process) if process else None
    if home:
        return f"that is the stack of {home}: `WARMSTART_HOME={home} warmstart down`, or set {setting} to a free port"
    return f"end it, or set {setting} to a free port"
