"""Where a run's folders are under a home. Standard library only: a question need not load what opens a run."""

from __future__ import annotations

import re
from pathlib import Path


def folder_name(run_id: str) -> str:
    """`run_id` as a folder name: `manual__2026-01-02T03:04:05+00:00` -> `manual__2026-01-02T03-04-05-00-00`."""
    return re.sub(r"[^A-Za-z0-9_.-]", "-", run_id)


def workspace_folder(home: Path, run_id: str) -> Path:
    """Where the workspace of a run stands while the run is open."""
    return home / "runs" / folder_name(run_id)


def record_folder(home: Path, run_id: str) -> Path:
    """Where the record of a closed run stands."""
    return home / "records" / folder_name(run_id)
