"""Where things are, as an orchestrator's process sees them: from the environment, with nothing imported."""

from __future__ import annotations

import os
import re
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]


def home() -> Path:
    """`$WARMSTART_HOME`, the state of the stack and of every run."""
    return Path(os.environ.get("WARMSTART_HOME", CHECKOUT / ".warmstart"))


def python() -> str:
    """The interpreter of the stages' environment."""
    return os.environ.get("WARMSTART_PYTHON", str(CHECKOUT / ".venv" / "bin" / "python"))


def workspace_folder(run_id: str) -> Path:
    """The run's workspace (`pipeline.runs.workspace.workspace_path`, whose imports Airflow does not have)."""
    return home() / "runs" / re.sub(r"[^A-Za-z0-9_.-]", "-", run_id)
