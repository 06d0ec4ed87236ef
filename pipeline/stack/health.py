"""Does a server answer, and is it well? Each probe returns None, or in one sentence what is wrong."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit
from urllib.request import OpenerDirector, ProxyHandler, Request, build_opener

from pipeline.settings import Settings
from pipeline.stack.databases import database_problem

PROBE_SECONDS = 5
AIRFLOW_PARTS = ("metadatabase", "scheduler", "dag_processor", "triggerer")


def postgres_problem(settings: Settings) -> str | None:
    """PostgreSQL accepts connections."""
    return database_problem(settings)


def mlflow_problem(settings: Settings) -> str | None:
    """MLflow's `/health`; a tracking URI that is no address (a database, a managed service) is not probed."""
    if not settings.mlflow_uri.startswith(("http://", "https://")):
        return None
    return _problem(f"{settings.mlflow_uri.rstrip('/')}/health")


def airflow_problem(settings: Settings, since: float = 0.0) -> str | None:
    """Airflow's API answers, and scheduler, dag-processor and triggerer have sent a heartbeat after `since`.

    Args:
        since: seconds since the epoch. The heartbeat of a process that was just killed counts as fresh for 30 s.
    """
    url = f"{settings.airflow_uri}/api/v2/monitor/health"
    try:
        health = json.loads(_get(url))
    except (OSError, ValueError) as error:
        return f"{url}: {_reason(error)}"
    for part in AIRFLOW_PARTS:
        found = health.get(part) or {}
        if found.get("status") != "healthy":
            return f"the {part.replace('_', '-')} is {found.get('status') or 'not there'}"
        beat = found.get(f"latest_{part}_heartbeat")
        if beat and datetime.fromisoformat(beat).timestamp() < since:
            return f"the {part.replace('_', '-')} has sent no heartbeat since it was started"
    return None


def dag_import_errors(settings: Settings, user: str, password: str) -> list[tuple[str, str]]:
    """(file, last line of the traceback) of every DAG file that Airflow could not import.

    Raises:
        OSError: the API does not answer, or refuses the user.
    """
    token_url = f"{settings.airflow_uri}/auth/token"
    login = json.dumps({"username": user, "password": password}).encode()
    token = json.loads(_get(Request(token_url, login, {"Content-Type": "application/json"})))["access_token"]
    errors_url = f"{settings.airflow_uri}/api/v2/importErrors"
    found = json.loads(_get(Request(errors_url, headers={"Authorization": f"Bearer {token}"})))["import_errors"]
    return [(error["filename"], error["stack_trace"].strip().splitlines()[-1]) for error in found]


def _problem(url: str) -> str | None:
    try:
        _get(url)
    except OSError as error:
        return f"{url}: {_reason(error)}"
    return None


def _get(request: str | Request) -> bytes:
    url = request if isinstance(request, str) else request.full_url
    with opener(url).open(request, timeout=PROBE_SECONDS) as response:
        body: bytes = response.read()
    return body


def opener(url: str) -> OpenerDirector:
    """A proxy of the environment is for the outside world only."""
    loopback = urlsplit(url).hostname in {"127.0.0.1", "localhost", "::1"}
    return build_opener(ProxyHandler({})) if loopback else build_opener()


def _reason(error: Exception) -> Any:
    return getattr(error, "reason", None) or error
