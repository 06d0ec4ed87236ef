"""One attempt at a time: the lease on a stage of a workspace.

Airflow may start a second attempt while an orphan of the first is still working (its worker was killed, or a run was
cleared and rerun: `max_active_runs` does not prevent either). The newest attempt wins: it ends the orphan first.
"""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from pipeline.exit_codes import PassingFault

log = logging.getLogger(__name__)


@contextmanager
def lease(path: Path, patience: float = 15.0) -> Iterator[None]:
    """Hold the lease file `path` for the body; the file names the holder's pid and its pid namespace.

    The lock is the kernel's (flock), so a holder that dies in any way has let go. A living holder is asked to end
    (TERM), after half of `patience` seconds it is made to (KILL).

    Raises:
        PassingFault: the holder could not be ended within `patience` seconds.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        if not _try_lock(file):
            _end_holder(file, path, patience)
        file.seek(0)
        file.truncate()
        file.write(f"{os.getpid()} {_processes()}")
        file.flush()
        yield


def is_held(path: Path) -> bool:
    """Does a living process hold the lease file `path`?"""
    if not path.exists():
        return False
    with path.open("r") as file:
        return not _try_lock(file)


def _try_lock(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _end_holder(file: TextIO, path: Path, patience: float) -> None:
    file.seek(0)
    pid, _, space = (file.read() or "0").partition(" ")
    # a number means another process in another container: that one is its orchestrator's to end
    holder = int(pid) if space == _processes() else 0
    log.warning("an earlier attempt (pid %s) still works at this stage; ending it", pid)
    began = time.monotonic()
    while not _try_lock(file):
        waited = time.monotonic() - began
        if waited > patience:
            raise PassingFault(f"{path} is still held by pid {pid} after {patience:.0f} s; end that process")
        if holder:
            _signal(holder, signal.SIGTERM if waited < patience / 2 else signal.SIGKILL)
        time.sleep(0.1)


def _processes() -> str:
    """Names the space in which process numbers mean something: the machine, or one container."""
    space = Path("/proc/self/ns/pid")
    return str(space.readlink()) if space.is_symlink() else "-"


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        log.info("pid %d is gone", pid)
