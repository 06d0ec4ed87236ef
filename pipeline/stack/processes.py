"""Finding and ending processes: ours by the mark in their environment, and whoever holds a port we need."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
from collections.abc import Iterable
from typing import Any

import psutil

STACK_MARK = "WARMSTART_STACK"  # = home, in the environment of every process of the stack, tasks included
SERVICE_MARK = "WARMSTART_SERVICE"  # = the service that started it


def marked(home: str, service: str | None = None) -> list[psutil.Process]:
    """The processes of the stack of `home` (of one service of it), without this one and those that started it.

    PostgreSQL's backends write their titles over their environment; they end with the postmaster, which does not. Of
    the postmaster, where it is another user's, root may not see the environment in a container: its arguments tell.
    """
    spared = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    found = []
    for process in psutil.process_iter():
        if process.pid in spared:
            continue
        # Gone meanwhile, another user's, or a zombie: not ours to end.
        with contextlib.suppress(psutil.Error, OSError):
            if _is_of(process, home, service):
                found.append(process)
    return found


def _is_of(process: psutil.Process, home: str, service: str | None) -> bool:
    if process.name() == "postgres":
        return service in (None, "postgres") and f"{home}/postgres" in process.cmdline()
    environment = process.environ()
    return environment.get(STACK_MARK) == home and service in (None, environment.get(SERVICE_MARK))


def stack_of(process: psutil.Process) -> str | None:
    """Home of the stack that a process belongs to, or None."""
    try:
        return process.environ().get(STACK_MARK)
    except (psutil.Error, OSError):
        return None


def is_ending(process: psutil.Process) -> bool:
    """Whether a process is on its way out: the system takes its memory (and so its command line) before its files."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE or not process.cmdline()
    except psutil.NoSuchProcess:
        return True
    except psutil.AccessDenied:
        return False


def end(processes: Iterable[psutil.Process], seconds: float = 10) -> None:
    """Ask processes to end, and kill those that have not after `seconds`. PostgreSQL goes last, and gets its time."""
    everyone = list(processes)
    databases = [process for process in everyone if _is_postgres(process)]
    others = [process for process in everyone if process not in databases]
    _signal(others, signal.SIGTERM)
    _, stubborn = psutil.wait_procs(others, timeout=seconds)
    _signal(stubborn, signal.SIGKILL)
    _signal(databases, signal.SIGINT)  # "fast shutdown": does not wait for clients to leave
    _, stubborn = psutil.wait_procs([*stubborn, *databases], timeout=max(seconds, 20))
    _signal(stubborn, signal.SIGKILL)
    psutil.wait_procs(stubborn, timeout=5)


def end_stack(home: str) -> None:
    """End everything that carries the mark of `home`, and what it may start while it is being ended."""
    for _ in range(5):
        found = marked(home)
        if not found:
            return
        end(found)


def _is_postgres(process: psutil.Process) -> bool:
    try:
        return process.name() == "postgres"
    except psutil.Error:
        return False


def _signal(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def port_is_free(host: str, port: int) -> bool:
    """Whether a server could listen on host:port now.

    Raises:
        OSError: the address is not one of this machine, or the port may not be used by this user.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As servers do: connections of a server that has just ended (TIME_WAIT) are no hindrance.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen()
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise
    return True


def port_holder(port: int) -> psutil.Process | None:
    """The process that listens on a TCP port, or None when the system does not tell (another user's)."""
    with contextlib.suppress(psutil.AccessDenied):  # macOS shows the whole table to root only
        for connection in psutil.net_connections("tcp"):
            if _listens(connection, port) and connection.pid:
                return psutil.Process(connection.pid)
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if any(_listens(connection, port) for connection in process.net_connections("tcp")):
                return process
    return None


def _listens(connection: Any, port: int) -> bool:
    return connection.status == psutil.CONN_LISTEN and bool(connection.laddr) and connection.laddr.port == port


def describe(process: psutil.Process) -> str:
    """`pid 4711 (python -m http.server 8080)`, cut to a readable length."""
    try:
        line = " ".join(process.cmdline()) or process.name()
    except psutil.Error:
        line = "command line not shown"
    return f"pid {process.pid} ({line[:117] + '…' if len(line) > 118 else line})"
