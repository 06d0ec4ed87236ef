"""`up` and `down`: bring all servers of a home up, whatever state it is in, and take them down without a trace.

Both hold the home's lock, so that two of them cannot meet. What `up` does, in order: folders and secrets; end
processes of ours that no supervisord watches any more; ports; supervisord; PostgreSQL and its databases; Airflow's
schema (only when it is not the installed version's) while MLflow starts; Airflow; wait until everything is well.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPException

import psutil

from pipeline.exit_codes import PassingFault
from pipeline.lineage.database import DATABASE, prepare
from pipeline.registry.start import tidy_up
from pipeline.settings import Settings
from pipeline.stack import migration, ports
from pipeline.stack.containers import end_containers, end_forgotten
from pipeline.stack.databases import create_databases
from pipeline.stack.health import airflow_problem, mlflow_problem, postgres_problem
from pipeline.stack.home import prepare_home, remove_socket_dir
from pipeline.stack.processes import end_stack, marked
from pipeline.stack.record import refuse_other_settings, write_record
from pipeline.stack.services import Service, services
from pipeline.stack.supervision import Supervisor
from pipeline.stack.waiting import Say, Waiting

STOP_SECONDS = 60


def up(settings: Settings, say: Say = lambda text: None) -> None:
    """Start what is not running and wait until all of it is well. Harmless when it already is.

    Args:
        say: told what is being waited for.

    Raises:
        BadConfiguration: a port is taken, the home cannot be written, an environment is missing, or the running
            stack was started with other settings.
        PassingFault: a server did not come up; the message has the end of its log.
    """
    prepare_home(settings)
    with locked(settings, say):
        table = services(settings)
        if settings.airflow_api_url is None:
            migration.installed_airflow()
        supervisor = Supervisor(settings)
        fresh = not supervisor.alive()
        if fresh:
            end_stack(str(settings.home))
        else:
            refuse_other_settings(settings, table)
            supervisor.settle()
        ports.check(settings, table, running=ports.running(supervisor))
        try:
            if fresh and table:
                write_record(settings, table)
                supervisor.launch(table)
            _start(settings, table, supervisor, say)
        except BaseException:
            if fresh and table:  # nothing is left half-started
                _stop(settings, supervisor, say)
            raise


def down(settings: Settings, say: Say = lambda text: None) -> int:
    """Stop everything that belongs to this home, tasks included; returns how many processes that was.

    Raises:
        PassingFault: a process could not be ended.
    """
    if not settings.home.is_dir():
        return 0
    with locked(settings, say):
        ended = _stop(settings, Supervisor(settings), say)
        remove_socket_dir(settings)
    return ended


def _start(settings: Settings, table: list[Service], supervisor: Supervisor, say: Say) -> None:
    """Start services in their order, each group as soon as what it needs is there."""
    names = [service.name for service in table]
    airflow = [name for name in names if name.startswith("airflow")]
    waiting = Waiting(settings, supervisor, say)

    def start(*wanted: str) -> None:
        for name in wanted:
            if name in names:
                supervisor.start(name)
                waiting.started.add(name)

    start("postgres")
    waiting.until("PostgreSQL", "postgres", lambda: postgres_problem(settings))
    create_databases(settings)
    start("mlflow", "mlflow-door")
    prepare(settings.postgres_url(DATABASE))
    if airflow:
        migration.bring_up_to_date(settings, say)
        start(*airflow)
    waiting.until("MLflow", "mlflow", lambda: mlflow_problem(settings))
    waiting.until("Airflow", "airflow-api-server", lambda: airflow_problem(settings, _last_start(supervisor, airflow)))
    tidy_up(settings, say)
    end_forgotten(settings, say)


def _last_start(supervisor: Supervisor, airflow: list[str]) -> float:
    """When a server of ours was last started. A heartbeat from before that proves nothing.

    Not only of Airflow's own: losing PostgreSQL ends a scheduler too, a moment later.
    """
    return max((process.started for process in supervisor.processes().values()), default=0.0) if airflow else 0.0


def _stop(settings: Settings, supervisor: Supervisor, say: Say) -> int:
    ours = marked(str(settings.home))
    # supervisord may end, or be ended, at any moment of this; what it leaves is ended below.
    with suppress(OSError, HTTPException, psutil.NoSuchProcess):
        process = psutil.Process(supervisor.pid())
        say("stopping the servers")
        supervisor.stop_all(but="postgres")  # all at once; supervisord's own shutdown does one after the other
        supervisor.shutdown()
        psutil.wait_procs([process], timeout=STOP_SECONDS)
    if left := marked(str(settings.home)):
        say("ending what the servers had started")
        end_stack(str(settings.home))
    end_containers(settings, say)
    if stubborn := marked(str(settings.home)):
        pids = ", ".join(str(process.pid) for process in stubborn)
        raise PassingFault(f"These processes of the stack do not end: {pids}; end them by hand, then repeat this.")
    return len({process.pid for process in [*ours, *left]})


@contextmanager
def locked(settings: Settings, say: Say) -> Iterator[None]:
    """One `up` or `down` of a home at a time; the lock goes with the process, however it ends."""
    with (settings.home / "stack.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another `warmstart up` or `down` of this home")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
