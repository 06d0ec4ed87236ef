"""`up` and `down`: bring all servers of a home up, whatever state it is in, and take them down without a trace.

Both hold the home's lock, so that two of them cannot meet. What `up` does, in order: folders and secrets; end
processes of ours that no supervisord watches any more; ports; supervisord; PostgreSQL and its databases; Airflow's
schema (only when it is not the installed version's) while MLflow starts; Airflow; wait until everything is well.
"""

from __future__ import annotations

import fcntl
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import psutil

from pipeline.exit_codes import BadConfiguration, PassingFault
from pipeline.settings import Settings
from pipeline.stack import migration, ports
from pipeline.stack.credentials import airflow_passwords, write_privately
from pipeline.stack.databases import create_databases
from pipeline.stack.health import airflow_problem, mlflow_problem, postgres_problem
from pipeline.stack.home import prepare_home
from pipeline.stack.processes import end, marked
from pipeline.stack.services import Service, services
from pipeline.stack.supervision import Supervisor, log_path, services_path

Say = Callable[[str], None]
START_SECONDS = 180
LOG_LINES = 15


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
        supervisor = Supervisor(settings)
        fresh = not supervisor.alive()
        if fresh:
            end(marked(str(settings.home)))
        else:
            refuse_other_settings(settings, table)
        ports.check(settings, table, running=ports.running(supervisor))
        try:
            if fresh and table:
                airflow_passwords(settings)
                write_privately(services_path(settings), _record(settings, table))
                supervisor.launch(table)
            _start(settings, table, supervisor, say)
        except BaseException:
            if fresh and table:  # nothing is left half-started
                _stop(settings, supervisor, say)
            raise


def down(settings: Settings, say: Say = lambda text: None) -> int:
    """Stop everything that belongs to this home, tasks included; returns how many processes that was.

    Raises:
        BadConfiguration: a process could not be ended.
    """
    if not settings.home.is_dir():
        return 0
    with locked(settings, say):
        return _stop(settings, Supervisor(settings), say)


def _start(settings: Settings, table: list[Service], supervisor: Supervisor, say: Say) -> None:
    """Start services in their order, each group as soon as what it needs is there."""
    names = [service.name for service in table]
    wait = _Waiting(settings, supervisor, say)
    if "postgres" in names:
        supervisor.start("postgres")
    wait.until("PostgreSQL", "postgres", lambda: postgres_problem(settings))
    create_databases(settings)
    if "mlflow" in names:
        supervisor.start("mlflow")
    airflow = [name for name in names if name.startswith("airflow")]
    if airflow:
        migration.bring_up_to_date(settings, say)
        for name in airflow:
            supervisor.start(name)
    wait.until("MLflow", "mlflow", lambda: mlflow_problem(settings))
    known = supervisor.processes() if table else {}
    started = max((known[name].started for name in airflow), default=0.0)
    wait.until("Airflow", "airflow-api-server", lambda: airflow_problem(settings, since=started))


class _Waiting:
    """Waits for probes, and gives up early when supervisord has."""

    def __init__(self, settings: Settings, supervisor: Supervisor, say: Say) -> None:
        self._settings, self._supervisor, self._say = settings, supervisor, say

    def until(self, title: str, service: str, problem: Callable[[], str | None]) -> None:
        """Wait until `problem()` is None.

        Raises:
            PassingFault: it still is not after `START_SECONDS`, or a server of ours ended and stays down.
        """
        deadline = time.monotonic() + START_SECONDS
        while (found := problem()) is not None:
            self._say(f"waiting for {title}: {found}")
            if down := self._given_up():
                raise PassingFault(f"{down} does not stay up.{self._log_end(down)}")
            if time.monotonic() > deadline:
                raise PassingFault(f"{title} is not well after {START_SECONDS} s: {found}.{self._log_end(service)}")
            time.sleep(0.1)

    def _given_up(self) -> str | None:
        if not self._supervisor.alive():
            return None  # nothing of ours runs: every server is somebody else's
        states = self._supervisor.processes().values()
        return next((process.name for process in states if process.state == "FATAL"), None)

    def _log_end(self, service: str) -> str:
        path = log_path(self._settings, service)
        if not path.exists():
            return ""
        lines = path.read_text(errors="replace").splitlines()[-LOG_LINES:]
        return f" The end of {path}:\n" + "\n".join(f"    {line}" for line in lines)


def _stop(settings: Settings, supervisor: Supervisor, say: Say) -> int:
    ours = marked(str(settings.home))
    if supervisor.alive():
        say("stopping the servers")
        process = psutil.Process(supervisor.pid())
        supervisor.stop_all(but="postgres")  # all at once; its own shutdown does one after the other
        supervisor.shutdown()
        psutil.wait_procs([process], timeout=60)
    left = marked(str(settings.home))
    if left:
        say("ending what the servers had started")
        end(left)
    if stubborn := marked(str(settings.home)):
        raise BadConfiguration(
            f"These processes do not end: {', '.join(str(p.pid) for p in stubborn)}; end them by hand."
        )
    return len({process.pid for process in [*ours, *left]})


def refuse_other_settings(settings: Settings, table: list[Service]) -> None:
    """A stack that runs is not changed under the tasks that use it.

    Raises:
        BadConfiguration: it was started with other settings; names what differs, without values (some are secret).
    """
    path = services_path(settings)
    before: dict[str, Any] = json.loads(path.read_text())["services"] if path.exists() else {}
    now: dict[str, Any] = json.loads(_record(settings, table))["services"]
    differing = {
        f"{name}: {', '.join(_differences(before.get(name, {}), now.get(name, {})))}"
        for name in before.keys() | now.keys()
        if before.get(name) != now.get(name)
    }
    if differing:
        raise BadConfiguration(
            f"The stack of {settings.home} is running with other settings ({'; '.join(sorted(differing))}): "
            "run `warmstart down`, then `warmstart up`."
        )


def _differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    if not before or not now:
        return ["not started" if not before else "no longer ours"]
    environments = before["environment"], now["environment"]
    names = environments[0].keys() | environments[1].keys()
    changed = sorted(name for name in names if environments[0].get(name) != environments[1].get(name))
    return changed or [key for key in now if before.get(key) != now[key]]


def _record(settings: Settings, table: list[Service]) -> str:
    """services.json. PATH is the shell's and differs without meaning anything."""
    return json.dumps(
        {"home": str(settings.home), "services": {service.name: asdict(service) for service in table}}, indent=2
    )


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
