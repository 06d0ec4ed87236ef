"""Are the servers well, ours and those of others: reachable, fresh, writable, agreeing about the time."""

from __future__ import annotations

import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from pipeline.exit_codes import StageError
from pipeline.settings import Settings
from pipeline.stack import health
from pipeline.stack import ports as port_table
from pipeline.stack.check import ERROR, OK, WARNING, Check
from pipeline.stack.credentials import airflow_passwords, passwords_path
from pipeline.stack.databases import database_clock, database_place, missing_databases
from pipeline.stack.processes import marked
from pipeline.stack.services import services
from pipeline.stack.supervision import Supervisor, log_path

CLOCK_SECONDS = 5.0


def supervisor(settings: Settings) -> list[Check]:
    """Every service of ours runs, and nothing of ours runs unwatched."""
    watcher = Supervisor(settings)
    if not watcher.alive():
        stray = marked(str(settings.home))
        if stray:
            found = f"{len(stray)} processes of ours run without their supervisord"
            return [Check("stack", ERROR, found, "Run `warmstart up`: it ends them first.")]
        return [Check("stack", WARNING, "not running", "Run `warmstart up`.")] if services(settings) else []
    ill = [process for process in watcher.processes().values() if process.state != "RUNNING"]
    if ill:
        return [
            Check(
                process.name, ERROR, process.state.lower(), f"See {log_path(settings, process.name)}; `warmstart up`."
            )
            for process in ill
        ]
    return [Check("stack", OK, f"{len(watcher.processes())} processes run")]


def ports(settings: Settings) -> list[Check]:
    """The ports of services that do not run are free for them."""
    running = port_table.running(Supervisor(settings))
    idle = [service for service in services(settings) if service.port and service.name not in running]
    wrong = port_table.problems(settings, idle)
    if wrong:
        return [Check("port", ERROR, what, f"{fix[:1].upper()}{fix[1:]}.") for what, fix in wrong]
    return [Check("ports", OK, f"{len(idle)} free" if idle else "in use by our own servers")]


def database(settings: Settings) -> list[Check]:
    """PostgreSQL answers and has the databases."""
    place = database_place(settings)
    external = settings.database_url is not None
    if problem := health.postgres_problem(settings):
        return [_unreachable(settings, "database", external, f"{place}: {problem}", "WARMSTART_DATABASE_URL")]
    try:
        missing = missing_databases(settings)
    except StageError as error:
        return [Check("database", ERROR, str(error), "Look at PostgreSQL's log.")]
    if missing:
        fix = "Run `warmstart up`, which makes them if the user may; else create them by hand."
        return [Check("database", ERROR, f"{place}: no database {', '.join(missing)}", fix)]
    return [Check("database", OK, place)]


def clock(settings: Settings) -> list[Check]:
    """`as_of` and heartbeats compare this machine's clock with the database's."""
    if health.postgres_problem(settings) is not None:
        return []
    before = time.time()
    apart = abs(database_clock(settings) - (before + time.time()) / 2)
    if apart > CLOCK_SECONDS:
        fix = "Synchronise both clocks (NTP)."
        return [Check("clock", ERROR, f"{apart:.0f} s away from the database's", fix)]
    return [Check("clock", OK, f"agrees with the database's within {CLOCK_SECONDS:.0f} s")]


def mlflow(settings: Settings) -> list[Check]:
    """MLflow answers."""
    if problem := health.mlflow_problem(settings):
        external = settings.mlflow_tracking_uri is not None
        return [_unreachable(settings, "mlflow", external, problem, "MLFLOW_TRACKING_URI")]
    return [Check("mlflow", OK, settings.mlflow_uri)]


def airflow(settings: Settings) -> list[Check]:
    """Airflow's API answers, and its scheduler, dag-processor and triggerer send heartbeats."""
    if problem := health.airflow_problem(settings):
        external = settings.airflow_api_url is not None
        return [_unreachable(settings, "airflow", external, problem, "WARMSTART_AIRFLOW_API_URL")]
    return [Check("airflow", OK, settings.airflow_uri)]


def dags(settings: Settings) -> list[Check]:
    """Airflow could import the DAGs."""
    if health.airflow_problem(settings) is not None:
        return []
    if settings.airflow_api_url is not None:
        return [Check("dags", OK, "not looked at: this Airflow is not ours")]
    try:
        errors = health.dag_import_errors(settings, "admin", airflow_passwords(settings)["admin"])
    except (OSError, ValueError, KeyError) as error:
        return [Check("dags", ERROR, f"Airflow's API refuses: {error}", f"Look at {passwords_path(settings)}.")]
    if errors:
        return [
            Check("dags", ERROR, f"{file}: {reason}", "Repair the file; it is read again.") for file, reason in errors
        ]
    return [Check("dags", OK, "no import errors")]


def dvc_remote(settings: Settings) -> list[Check]:
    """Artifacts of a finished run can be pushed."""
    place = settings.dvc_remote
    write = _write_to_url if "://" in place else _write_to_folder
    return [_written("dvc remote", place, write, "Make it writable, or set WARMSTART_DVC_REMOTE_URL.")]


def online_store(settings: Settings) -> list[Check]:
    """The Redis that stands in for PostgreSQL as online store, if there is one, can be written."""
    if settings.online_store_url is None:
        return []
    place = settings.online_store_url
    return [
        _written(
            "online store",
            place.rpartition("@")[2],
            lambda _: _write_to_redis(place),
            "Start it, or correct WARMSTART_ONLINE_STORE_URL.",
        )
    ]


def _written(name: str, place: str, write: Callable[[str], None], fix: str) -> Check:
    try:
        write(place)
    # Each store has exceptions of its own; whichever it is, it goes to the person who asked.
    except Exception as error:
        return Check(name, ERROR, f"{place} cannot be written: {error}", fix)
    return Check(name, OK, place)


def _write_to_folder(place: str) -> None:
    folder = Path(place)
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())  # the rest is made when needed
    with tempfile.TemporaryFile(dir=existing) as probe:
        probe.write(b"warmstart")


def _write_to_url(place: str) -> None:
    import fsspec

    files, path = fsspec.core.url_to_fs(f"{place.rstrip('/')}/.warmstart-{uuid.uuid4().hex}")
    files.pipe_file(path, b"warmstart")
    files.rm_file(path)


def _write_to_redis(place: str) -> None:
    import redis

    redis.Redis.from_url(place, socket_connect_timeout=5).set("warmstart:doctor", "1", px=1000)


def _unreachable(settings: Settings, name: str, external: bool, found: str, variable: str) -> Check:
    if external:
        return Check(name, ERROR, found, f"Start it, or correct {variable} (unset: the embedded one).")
    if Supervisor(settings).alive():
        return Check(name, ERROR, found, f"Look at {settings.home / 'logs'}, then run `warmstart up`.")
    return Check(name, WARNING, "not running", "Run `warmstart up`.")
