"""Waiting for servers: until they are well, until time is up, or until one of ours has ended for good."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

import psutil

from pipeline.exit_codes import PassingFault
from pipeline.settings import Settings
from pipeline.stack.processes import port_holder, port_is_free
from pipeline.stack.services import services
from pipeline.stack.supervision import Supervisor, log_path

Say = Callable[[str], None]
START_SECONDS = 180
EXTERNAL_SECONDS = 10
LOG_LINES = 15


class Waiting:
    """Waits for probes, and gives up early when a server of ours has ended for good.

    Attributes:
        started: the services that this `up` started or found running.
    """

    def __init__(self, settings: Settings, supervisor: Supervisor, say: Say) -> None:
        self._settings, self._supervisor, self._say = settings, supervisor, say
        self.started: set[str] = set()

    def until(self, title: str, service: str, problem: Callable[[], str | None]) -> None:
        """Wait until `problem()` is None.

        Raises:
            PassingFault: it still is not after `START_SECONDS` (`EXTERNAL_SECONDS` for a server that we do not start),
                or a server of ours does not stay up.
        """
        seconds = START_SECONDS if service in self.started else EXTERNAL_SECONDS
        deadline = time.monotonic() + seconds
        # The probe again, once the port is known to be this server's: what answered before may have been a left-over.
        while (found := problem() or self._port_of_another(service) or problem()) is not None:
            self._say(f"waiting for {title}: {found}")
            if gone := self._given_up():
                raise PassingFault(f"{gone} does not stay up.{self._log_end(gone)}")
            if time.monotonic() > deadline:
                raise PassingFault(f"{title} is not well after {seconds} s: {found}.{self._log_end(service)}")
            time.sleep(0.1)

    def _given_up(self) -> str | None:
        if not self.started:
            return None
        states = self._supervisor.processes()
        return next((name for name in sorted(self.started) if states[name].state == "FATAL"), None)

    def _port_of_another(self, service: str) -> str | None:
        """A child of a server that was killed may answer in its place, until `child` ends it."""
        port = next((known.port for known in services(self._settings) if known.name == service), None)
        if port is None:
            return None
        holder = port_holder(port)
        if holder is None:  # nobody has it, or somebody whom this user may not see
            return "nothing listens on its port" if port_is_free(self._settings.host, port) else None
        main = self._supervisor.processes()[service].pid
        with suppress(psutil.NoSuchProcess):
            if main in {holder.pid, *(parent.pid for parent in holder.parents())}:
                return None
        return "a child of the one before still has its port"

    def _log_end(self, service: str) -> str:
        path = log_path(self._settings, service)
        if service not in self.started or not path.exists():
            return ""
        lines = path.read_text(errors="replace").splitlines()[-LOG_LINES:]
        return f" The end of {path}:\n" + "\n".join(f"    {line}" for line in lines)
