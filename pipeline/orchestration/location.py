"""Where things are, as an orchestrator's process sees them: from the environment, with next to nothing imported."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import yaml

CHECKOUT = Path(__file__).resolve().parents[2]


def home() -> Path:
    """`$WARMSTART_HOME`, the state of the stack and of every run."""
    return Path(os.environ.get("WARMSTART_HOME", CHECKOUT / ".warmstart"))


def checkout() -> Path:
    """The repository that runs are opened from: `WARMSTART_CHECKOUT`, where Airflow's code is an image's."""
    return Path(os.environ.get("WARMSTART_CHECKOUT", CHECKOUT))


def python() -> str:
    """The interpreter of the stages' environment."""
    return os.environ.get("WARMSTART_PYTHON", str(CHECKOUT / ".venv" / "bin" / "python"))


def workspace_folder(run_id: str) -> Path:
    """The run's workspace (`pipeline.runs.workspace.workspace_path`, whose imports Airflow does not have)."""
    return home() / "runs" / re.sub(r"[^A-Za-z0-9_.-]", "-", run_id)


def run_record(workspace: Path) -> dict[str, Any]:
    """run.yaml of an open run."""
    record: dict[str, Any] = yaml.safe_load((workspace / "run.yaml").read_text())
    return record
