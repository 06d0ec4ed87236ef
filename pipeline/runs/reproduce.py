"""Reproduce one stage of a workspace: `warmstart workspace stage ADDRESS`, the command of every orchestrated task.

DVC decides whether the stage runs or its outputs come back from the run-cache; this file starts DVC, finds out which
of the two it was, leaves the manifest, and passes the stage's own exit code on (DVC has only one of its own).
"""

from __future__ import annotations

import json
import logging
import uuid
from pathlib import Path
from typing import Any

from pipeline.exit_codes import DONE, KILLED, NOT_PROMOTED, PASSING_FAULT
from pipeline.graph import load_graph, split_address
from pipeline.runs.attempt import ATTEMPT_VARIABLE, attempt_path
from pipeline.runs.manifest import write_manifest
from pipeline.runs.workspace import python_in
from pipeline.runs.wrapper import attempts_folder

log = logging.getLogger(__name__)


def reproduce_stage(workspace: Path, address: str) -> int:
    """Bring the outputs of stage `address` up to date; returns an exit code of `pipeline.exit_codes`."""
    graph = load_graph(workspace / "dvc.yaml")
    name, target = split_address(address)
    attempt_id = uuid.uuid4().hex[:12]
    # --wait-for-lock: without it, stages in parallel in one workspace failed 14 of 18 times
    words = ["-m", "dvc", "--wait-for-lock", "repro", "--single-item", address]
    dvc = python_in(workspace, *words, env={ATTEMPT_VARIABLE: attempt_id})
    attempt = _read(attempt_path(attempts_folder(workspace, name, target), attempt_id))
    if dvc.returncode != DONE:
        return _failed(address, attempt, dvc.returncode)
    manifest = write_manifest(workspace, graph, address, attempt)
    if attempt is None:
        log.info("%s: restored from the cache: %s", address, manifest["found"])
    elif not graph.stages[name].always_changed:
        _track(workspace, manifest)
    return NOT_PROMOTED if manifest["promoted"] is False else DONE


def _failed(address: str, attempt: dict[str, Any] | None, dvc_code: int) -> int:
    if attempt is None:
        log.error("%s: DVC ended with %d before the stage began; its own message stands above", address, dvc_code)
        return PASSING_FAULT
    if "exit_code" not in attempt:
        log.error("%s: the process was killed (a KILL signal or the memory limit); the retry resumes", address)
        return KILLED
    if attempt["exit_code"] == DONE:
        log.error("%s: the stage was done, but DVC could not keep its outputs (exit %d)", address, dvc_code)
        return PASSING_FAULT
    code: int = attempt["exit_code"]
    return code


def _track(workspace: Path, manifest: dict[str, Any]) -> None:
    from pipeline.runs.tracking import track_stage

    track_stage(workspace, manifest)


def _read(path: Path) -> dict[str, Any] | None:
    return json.loads(path.read_text()) if path.exists() else None
