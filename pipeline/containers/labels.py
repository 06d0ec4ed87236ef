"""How a container says whose it is: its name and its labels, made from home, run, stage and try."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

HOME, RUN, STAGE, TRY, INPUTS = (f"warmstart.{name}" for name in ("home", "run", "stage", "try", "inputs"))
LONGEST_NAME = 128


def labels(home: Path, run_id: str, stage: str, attempt: int, inputs: str) -> dict[str, str]:
    """The labels of the container of one try at a stage.

    Args:
        stage: its address, `pretrain` or `transfer@harbour`.
        inputs: names the work (`pipeline.orchestration.inputs`).
    """
    return {HOME: str(home), RUN: run_id, STAGE: stage, TRY: str(attempt), INPUTS: inputs}


def container_name(home: Path, run_id: str, stage: str, attempt: int) -> str:
    """The one name of that container: a twin is refused by the engine. Also a valid name of a pod's container."""
    where = hashlib.sha256(str(home).encode()).hexdigest()[:8]
    name = re.sub(r"[^A-Za-z0-9_.-]", "-", f"{run_id}-{stage}-{attempt}")
    if len(name) > LONGEST_NAME:
        name = f"{name[: LONGEST_NAME - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return f"warmstart-{where}-{name}"
