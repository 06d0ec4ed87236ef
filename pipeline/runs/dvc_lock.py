"""`dvc.lock` of a workspace, read whole: stages in parallel write it, and DVC does not write it atomically."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import Any

import yaml


def locked_stages(workspace: Path) -> dict[str, dict[str, Any]]:
    """What DVC knows of every stage that has run: cmd, deps, params, outs; by stage address."""
    lock = workspace / "dvc.lock"
    if not lock.exists():
        return {}
    held = workspace / ".dvc" / "tmp" / "lock"  # what DVC itself holds (flock) while it writes
    if held.exists():
        with held.open() as guard:
            fcntl.flock(guard, fcntl.LOCK_SH)
            text = lock.read_text("utf-8")
    else:
        text = lock.read_text("utf-8")
    stages: dict[str, dict[str, Any]] = (yaml.safe_load(text) or {}).get("stages", {})
    return stages


def locked_outputs(workspace: Path) -> dict[str, dict[str, Any]]:
    """Every output that DVC knows, by path: md5, size, nfiles."""
    stages = locked_stages(workspace).values()
    return {out["path"]: out for body in stages for out in body.get("outs", []) if "md5" in out}
