"""Every attempt at a stage of a run leaves a mark before it does anything, and takes it away when its manifest stands.

A mark that nobody holds is the trace of an attempt that was killed: whoever finds it, the next attempt or the closing
of the run, writes the manifest that it could not write itself.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.runs.attempt import cost, image, machine, now, orchestrators_task
from pipeline.runs.lease import is_held

BEGUN = Path("run") / "begun"


@dataclass
class Mark:
    """An attempt that has begun.

    Attributes:
        about: attempt (12 hex digits), started, airflow, machine.
        settled: set it when the attempt's manifest stands; the mark goes then.
    """

    about: dict[str, Any]
    settled: bool = False
    cpu_before: float = field(default_factory=lambda: cost()["cpu_seconds"])

    def spent(self) -> dict[str, float]:
        """What the attempt has cost so far, DVC's part included: CPU-seconds, peak memory (bytes)."""
        now_spent = cost()
        return now_spent | {"cpu_seconds": round(now_spent["cpu_seconds"] - self.cpu_before, 3)}


@contextmanager
def begun(workspace: Path, address: str, attempt: str) -> Iterator[Mark]:
    """Hold the mark of an attempt for the body. It stays, unheld, if the body ends with `settled` still False."""
    path = workspace / BEGUN / address / f"{attempt}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    about = {
        "attempt": attempt,
        "started": now(),
        "airflow": orchestrators_task(),
        "machine": machine(),
        "image": image(),
    }
    mark = Mark(about)
    with path.open("x") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # the kernel's: a process that dies in any way has let go
        file.write(json.dumps(mark.about))
        file.flush()
        yield mark
        if mark.settled:
            path.unlink()


def abandoned(workspace: Path, address: str) -> list[dict[str, Any]]:
    """The attempts at a stage that were killed, oldest first: `about` of their marks.

    None while somebody still works at the stage: an orphan's stage may outlive the process that held its mark.
    """
    if is_held(workspace / "run" / "leases" / address):
        return []
    marks = [path for path in (workspace / BEGUN / address).glob("*.json") if not is_held(path)]
    found = [json.loads(text) for path in marks if (text := path.read_text())]
    return sorted(found, key=lambda about: str(about["started"]))


def is_alive(workspace: Path, address: str) -> bool:
    """Is somebody working at a stage?"""
    marks = (workspace / BEGUN / address).glob("*.json")
    return is_held(workspace / "run" / "leases" / address) or any(map(is_held, marks))


def forget(workspace: Path, address: str, attempt: str) -> None:
    """Take the mark of an abandoned attempt away; its manifest stands now."""
    (workspace / BEGUN / address / f"{attempt}.json").unlink(missing_ok=True)
