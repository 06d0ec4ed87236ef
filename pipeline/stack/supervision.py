"""The supervisord of one home: its configuration, its start, and talking to it over its unix socket."""

from __future__ import annotations

import http.client
import os
import shlex
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from xmlrpc.client import Fault, ServerProxy

import psutil

from pipeline.exit_codes import PassingFault
from pipeline.settings import CHECKOUT, Settings
from pipeline.stack.processes import STACK_MARK
from pipeline.stack.record import services_path
from pipeline.stack.services import Service, stack_environment, stage_python

START_SECONDS = 15
STOP_SECONDS = 30
ALIVE = frozenset({"STARTING", "RUNNING", "BACKOFF", "STOPPING"})


def log_path(settings: Settings, service: str) -> Path:
    """The log of one service."""
    return settings.home / "logs" / f"{service}.log"


@dataclass(frozen=True)
class Process:
    """What supervisord says of one service.

    `state`: RUNNING, STARTING, BACKOFF (restarted soon), STOPPING, STOPPED, EXITED or FATAL (given up).
    """

    name: str
    state: str
    pid: int | None
    started: float  # seconds since the epoch; 0.0 when it never was
    explanation: str


class Supervisor:
    """Client of the supervisord of one home."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._socket = settings.socket_dir / "supervisor.sock"

    def alive(self) -> bool:
        """Whether supervisord answers."""
        try:
            self._call("getState")
        except (OSError, http.client.HTTPException):
            return False
        return True

    def pid(self) -> int:
        """Process number of supervisord."""
        return cast(int, self._call("getPID"))

    def processes(self) -> dict[str, Process]:
        """Every service that supervisord knows, by name."""
        return {
            found["name"]: Process(
                found["name"],
                found["statename"],
                found["pid"] or None,
                float(found["start"]),
                found["spawnerr"] or found["description"],
            )
            for found in self._call("getAllProcessInfo")
        }

    def settle(self) -> None:
        """Wait until supervisord has noticed the end of every process that has ended."""
        while any(process.state == "RUNNING" and not is_alive(process.pid) for process in self.processes().values()):
            time.sleep(0.05)

    def start(self, service: str) -> None:
        """Start a service that is not running; do not wait for it."""
        try:
            self._call("startProcess", service, False)
        except Fault as fault:
            if "ALREADY_STARTED" not in fault.faultString:
                raise

    def stop(self, service: str) -> None:
        """Stop one service and wait until it has ended; it stays down until it is started again."""
        self._call("stopProcess", service)

    def stop_all(self, but: str) -> None:
        """Stop all services at the same time, except one, and wait for them, but not for ever."""
        names = [p.name for p in self.processes().values() if p.name != but and p.state in ALIVE]
        for name in names:
            try:
                self._call("stopProcess", name, False)
            except Fault as fault:
                if "NOT_RUNNING" not in fault.faultString:
                    raise
        deadline = time.monotonic() + STOP_SECONDS
        while time.monotonic() < deadline and any(
            process.state in ALIVE for process in self.processes().values() if process.name in names
        ):
            time.sleep(0.05)

    def shutdown(self) -> None:
        """Stop all services, the last started first, and supervisord itself."""
        self._call("shutdown")

    def launch(self, services: list[Service]) -> None:
        """Start supervisord, detached from this terminal, with nothing running under it yet.

        Raises:
            PassingFault: it did not come up.
        """
        self._socket.unlink(missing_ok=True)
        conf = self._settings.home / "run" / "supervisord.conf"
        conf.write_text(self._configuration(services))
        log = log_path(self._settings, "supervisord")
        environment = os.environ | stack_environment(self._settings)
        environment |= {STACK_MARK: str(self._settings.home), "PYTHONPATH": str(CHECKOUT)}
        environment["NO_PROXY"] = environment["no_proxy"] = without_proxy(os.environ.get("no_proxy"))
        with log.with_suffix(".out").open("wb") as output:
            process = subprocess.Popen(
                [stage_python(), "-m", "supervisor.supervisord", "--nodaemon", "--configuration", conf],
                env=environment,
                cwd=self._settings.home,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self.alive():
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                said = Path(output.name).read_text(errors="replace").strip()
                raise PassingFault(f"supervisord did not start: {said or 'it said nothing'} (log: {log}).")
            time.sleep(0.05)

    def _call(self, method: str, *arguments: Any) -> Any:
        from supervisor.xmlrpc import SupervisorTransport

        transport = SupervisorTransport(None, None, serverurl=f"unix://{self._socket}")
        try:
            proxy = ServerProxy("http://localhost", transport=transport)
            return getattr(proxy.supervisor, method)(*arguments)
        finally:
            transport.close()

    def _configuration(self, services: list[Service]) -> str:
        """supervisord.conf. `%` is its expansion character."""
        run = self._settings.home / "run"
        sections: dict[str, dict[str, Any]] = {
            "unix_http_server": {"file": self._socket, "chmod": "0700"},
            "rpcinterface:supervisor": {
                "supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"
            },
            "supervisord": {
                "logfile": log_path(self._settings, "supervisord"),
                "logfile_maxbytes": "5MB",
                "logfile_backups": 1,
                "pidfile": run / "supervisord.pid",
                "childlogdir": self._settings.home / "logs",
                **({"user": "root"} if os.geteuid() == 0 else {}),  # silences a warning; changes nothing
            },
        }
        for service in services:
            child = [stage_python(), "-m", "pipeline.stack.child", services_path(self._settings), service.name]
            sections[f"program:{service.name}"] = {
                "command": " ".join(shlex.quote(str(word)) for word in child),
                "priority": service.priority,
                "autostart": "false",  # `up` starts them, in order
                "autorestart": "true",
                "startsecs": 1,
                "startretries": 4,
                "stopsignal": service.stop_signal,
                "stopwaitsecs": service.stop_seconds,
                # PostgreSQL's postmaster ends its own children; a signal to all of them would look like a crash.
                "stopasgroup": str(service.name != "postgres").lower(),
                "killasgroup": "true",
                "redirect_stderr": "true",
                # Relative to the home: supervisor expands this one twice, and a `%` in it would not survive.
                "stdout_logfile": log_path(self._settings, service.name).relative_to(self._settings.home),
                "stdout_logfile_maxbytes": "10MB",
                "stdout_logfile_backups": 2,
            }
        return "\n".join(
            f"[{section}]\n" + "".join(f"{k} = {v}\n".replace("%", "%%") for k, v in options.items())
            for section, options in sections.items()
        )


def is_alive(pid: int | None) -> bool:
    """Whether a process runs; one that has ended and waits for its parent's attention does not."""
    try:
        return pid is not None and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def without_proxy(inherited: str | None) -> str:
    """`no_proxy` with the loopback names in it: the servers talk to each other directly."""
    return ",".join(filter(None, [inherited, "localhost,127.0.0.1,::1"]))
