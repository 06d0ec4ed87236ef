"""The ports of the stack, looked at before anything is started."""

from __future__ import annotations

import time

import psutil

from pipeline.exit_codes import BadConfiguration
from pipeline.settings import Settings
from pipeline.stack.processes import describe, is_ending, port_holder, port_is_free, stack_of
from pipeline.stack.services import Service
from pipeline.stack.supervision import Supervisor

LETTING_GO_SECONDS = 5

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
        raise BadConfiguration(" ".join(f"{what}: {fix}." for what, fix in wrong))


def problems(settings: Settings, table: list[Service]) -> list[tuple[str, str]]:
    """For each port that a service of `table` cannot have: what is wrong, and what to do."""
    found = []
    given: dict[int, str] = {}
    for service in table:
        if service.port is None:
            continue
        setting = PORT_SETTING[service.name]
        if other := given.get(service.port):
            found.append((f"{other} and {setting} are both {service.port}", "choose another port for one of them"))
            continue
        given[service.port] = setting
        try:
            if not _let_go(settings.host, service.port):
                holder = port_holder(service.port)
                # A child of a server of ours that was killed: `child` ends it before the server starts again.
                if holder is None or stack_of(holder) != str(settings.home):
                    found.append(_taken(holder, service, setting))
        except (OSError, OverflowError) as error:
            what = f"{service.name} cannot listen on {settings.host}:{service.port} ({error})"
            found.append((what, f"set {setting} to a port that it may use"))
    return found


def _let_go(host: str, port: int) -> bool:
    """Whether the port is free, or soon is: a killed process holds its ports a moment longer than its own name."""
    deadline = time.monotonic() + LETTING_GO_SECONDS
    while not port_is_free(host, port):
        holder = port_holder(port)
        if (holder is not None and not is_ending(holder)) or time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def _taken(holder: psutil.Process | None, service: Service, setting: str) -> tuple[str, str]:
    where = f"Port {service.port} of {service.name} is in use by"
    if holder is None:
        return f"{where} a process that this user may not see", f"set {setting} to a free port"
    if home := stack_of(holder):
        fix = f"that is the stack of {home}: `WARMSTART_HOME={home} warmstart down`, or set {setting} to a free port"
    else:
        fix = f"end it, or set {setting} to a free port"
    return f"{where} {describe(holder)}", fix


def running(supervisor: Supervisor) -> set[str]:
    """The services that supervisord runs, and whose ports are therefore rightly in use."""
    if not supervisor.alive():
        return set()
    return {p.name for p in supervisor.processes().values() if p.state in {"RUNNING", "STARTING", "STOPPING"}}
