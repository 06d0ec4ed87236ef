"""A limit of CPU-seconds that a kill does not reset."""

from __future__ import annotations

import time
from pathlib import Path

FILE = "cpu_seconds.txt"


class OverBudget(Exception):
    """The work has used more CPU-seconds than it was given."""


class CpuBudget:
    """Counts this process's CPU-seconds from here on, and what earlier attempts at the same work have used."""

    def __init__(self, seconds: float, scratch: Path) -> None:
        """Args:
        seconds: user and system time of the process, all threads.
        scratch: a folder that survives a kill.
        """
        self.seconds, self._file = seconds, scratch / FILE
        scratch.mkdir(parents=True, exist_ok=True)
        self._before = float(self._file.read_text() or 0) if self._file.exists() else 0.0
        self._began = time.process_time()

    @property
    def spent(self) -> float:
        """CPU-seconds so far."""
        return self._before + time.process_time() - self._began

    def check(self) -> None:
        """Write down what is spent.

        Raises:
            OverBudget: more than the limit.
        """
        spent = self.spent
        fresh = self._file.with_suffix(".new")
        fresh.write_text(f"{spent:.3f}")
        fresh.replace(self._file)
        if spent > self.seconds:
            raise OverBudget(f"{spent:.1f} CPU-seconds are spent of {self.seconds:g}")
