"""The memory limit that a container puts on its processes, as the kernel's control group tells it: limit, peak, kills.

Both versions of control groups, seen from inside. Without a container, or without a limit, there is nothing to tell.
Source: https://docs.kernel.org/admin-guide/cgroup-v2.html, …/cgroup-v1/memory.html
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
NO_LIMIT = 2**60  # version 1 writes "no limit" as a number of pages near 2**63


@dataclass(frozen=True)
class MemoryLimit:
    """Bytes, and how many processes the kernel has killed for want of memory."""

    limit: int
    peak: int
    kills: int

    def sentence(self) -> str:
        """What to tell a person when a stage was killed for it."""
        return (
            f"out of memory: the container may use {_gib(self.limit)} and used {_gib(self.peak)} at its peak; raise "
            "meta.memory of the stage in dvc.yaml, or let it do less at once (batch_users, sampled_items, chunk_rows)"
        )


def memory_limit(root: Path = CGROUP) -> MemoryLimit | None:
    """The limit on this process's container; None when there is none."""
    if (root / "memory.max").exists():
        limit, peak, events = root / "memory.max", root / "memory.peak", root / "memory.events"
    else:
        v1 = root / "memory"
        limit, peak, events = (
            v1 / f"memory.{name}" for name in ("limit_in_bytes", "max_usage_in_bytes", "oom_control")
        )
    try:
        text = limit.read_text().strip()
        if text == "max" or int(text) > NO_LIMIT:
            return None
        # memory.peak is not there before Linux 5.19
        used = int(peak.read_text()) if peak.exists() else int(text)
        kills = dict(line.split() for line in events.read_text().splitlines()).get("oom_kill", 0)
    except (OSError, ValueError):
        return None
    return MemoryLimit(int(text), used, int(kills))


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f} GiB"
