"""`status`: what runs, where, since when."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pipeline.settings import Settings
from pipeline.stack.databases import database_place
from pipeline.stack.health import airflow_problem, mlflow_problem, postgres_problem
from pipeline.stack.services import Service, airflow, mlflow, postgres, services
from pipeline.stack.supervision import Process, Supervisor

EXTERNAL = "EXTERNAL"


@dataclass(frozen=True)
class ServiceStatus:
    """One server of the stack.

    Attributes:
        state: supervisord's word (RUNNING, STARTING, BACKOFF, STOPPED, EXITED, FATAL), or EXTERNAL.
        started: seconds since the epoch, None when it does not run or is not ours.
        problem: one sentence when it does not answer as it should, else None.
    """

    name: str
    state: str
    pid: int | None
    started: float | None
    address: str
    problem: str | None


def status(settings: Settings) -> list[ServiceStatus]:
    """Every server, ours or external, probed now."""
    supervisor = Supervisor(settings)
    known = supervisor.processes() if supervisor.alive() else {}
    ours = {service.name for service in services(settings)}
    return [
        _status(settings, service, known.get(service.name), service.name in ours) for service in everything(settings)
    ]


def everything(settings: Settings) -> list[Service]:
    """All servers that a stack needs; one line for an Airflow that is not ours."""
    airflows = airflow(settings)
    return [postgres(settings), mlflow(settings), *(airflows if settings.airflow_api_url is None else airflows[:1])]


def _status(settings: Settings, service: Service, process: Process | None, ours: bool) -> ServiceStatus:
    probe = _probe(settings, service.name)
    if not ours:
        return ServiceStatus(service.name, EXTERNAL, None, None, _address(settings, service), probe())
    if process is None or process.pid is None:
        state = process.state if process else "STOPPED"
        return ServiceStatus(service.name, state, None, None, _address(settings, service), None)
    return ServiceStatus(
        service.name, process.state, process.pid, process.started, _address(settings, service), probe()
    )


def _probe(settings: Settings, name: str) -> Callable[[], str | None]:
    probes: dict[str, Callable[[Settings], str | None]] = {
        "postgres": postgres_problem,
        "mlflow": mlflow_problem,
        "airflow-api-server": airflow_problem,
    }
    return lambda: probes[name](settings) if name in probes else None


def _address(settings: Settings, service: Service) -> str:
    match service.name:
        case "postgres":
            return database_place(settings)
        case "mlflow":
            return settings.mlflow_uri
        case "airflow-api-server":
            return settings.airflow_uri
        case _:
            return f":{service.port}" if service.port else ""
