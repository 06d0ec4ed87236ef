"""The record of one attempt at a stage: written when it starts, completed when it ends.

A record without an ending is the trace of a process that was killed.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import sys
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

# Set by the caller that wants to find the record of exactly the attempt it started.
ATTEMPT_VARIABLE = "WARMSTART_ATTEMPT"
# Set by the orchestrator: a JSON object that names its task (dag_id, run_id, task_id, map_index, try_number, url).
TASK_VARIABLE = "WARMSTART_TASK"
# Set by the orchestrator: digest of the container image that this process runs in.
IMAGE_VARIABLE = "WARMSTART_IMAGE"


class Attempt:
    """A JSON file `<folder>/<attempt id>.json`."""

    def __init__(self, folder: Path, stage: str, parameters: dict[str, Any], fingerprint: str) -> None:
        self.id = os.environ.get(ATTEMPT_VARIABLE) or uuid.uuid4().hex[:12]
        self.path = attempt_path(folder, self.id)
        self.record: dict[str, Any] = {
            "attempt": self.id,
            "stage": stage,
            "started": now(),
            "parameters": parameters,
            "fingerprint": fingerprint,
            "airflow": orchestrators_task(),
            "machine": machine(),
            "image": image(),
        }
        self._write()

    def end(
        self, exit_code: int, message: str, figures: dict[str, float], facts: Mapping[str, Any] | None = None
    ) -> None:
        """Complete the record: how it ended, what it found or why it failed, and what it cost."""
        self.record |= {
            "ended": now(),
            "exit_code": exit_code,
            "message": message,
            "metrics": figures,
            "facts": dict(facts or {}),
            **cost(),
        }
        self._write()

    def _write(self) -> None:
        write_json(self.path, self.record)


def attempt_path(folder: Path, attempt: str) -> Path:
    """Where the record of `attempt` stands."""
    return folder / f"{attempt}.json"


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically: readers see the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_text(json.dumps(value, indent=1, sort_keys=True, default=str) + "\n")
    fresh.replace(path)


def now() -> str:
    """This moment in UTC, ISO 8601 with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def cost() -> dict[str, float]:
    """CPU-seconds and peak memory (bytes) of this process and of its children so far."""
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    # ru_maxrss is KiB on Linux and bytes on macOS
    unit = 1 if sys.platform == "darwin" else 1024
    return {
        "cpu_seconds": round(own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime, 3),
        "peak_memory_bytes": max(own.ru_maxrss, children.ru_maxrss) * unit,
    }


def machine() -> dict[str, Any]:
    """The hardware and the interpreter of this process."""
    return {"cpu": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()}


def image() -> str | None:
    """Digest of the container image that this process runs in, or None outside of a container."""
    return os.environ.get(IMAGE_VARIABLE)


def orchestrators_task() -> dict[str, Any] | None:
    """The orchestrator's names for what this process does, or None outside of one."""
    text = os.environ.get(TASK_VARIABLE)
    return json.loads(text) if text else None
