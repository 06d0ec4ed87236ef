"""What an attempt at a stage leaves when DVC has ended: its manifest, MLflow's run, and the exit code that says why.

DVC has one exit code of its own; the stage's record tells whether the outputs were made, came back from the cache or
failed. Attempts that were killed before they could leave anything are buried here, too.
"""

from __future__ import annotations

import json
import logging
import traceback
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from pipeline.exit_codes import BROKE, DONE, KILLED, NOT_PROMOTED, PASSING_FAULT
from pipeline.graph import Graph, split_address
from pipeline.openlineage.delivery import started_when
from pipeline.runs.attempt import attempt_path, now
from pipeline.runs.begun import Mark, abandoned, forget
from pipeline.runs.faults import explain
from pipeline.runs.manifest import FAILED, describe_done, describe_failed, keep_manifest, read_every_attempt
from pipeline.runs.manifest_store import DIGEST
from pipeline.runs.memory_limit import memory_limit
from pipeline.runs.tracking import track_stage
from pipeline.runs.wrapper import attempts_folder, work_fingerprint

log = logging.getLogger(__name__)


def end_attempt(workspace: Path, home: Path, graph: Graph, address: str, mark: Mark, dvc_code: int) -> int:
    """Leave the manifest of the attempt that holds `mark`, and of those that were killed before it.

    Args:
        dvc_code: how DVC ended.

    Returns:
        An exit code of `pipeline.exit_codes`.
    """
    record = read_attempt(workspace, address, mark.about["attempt"])
    bury_killed(workspace, home, graph, address)
    if dvc_code != DONE:
        code, sentence = _failure(address, record, dvc_code)
        return _leave_failed(workspace, home, graph, address, mark, record, code, sentence)
    try:
        manifest = _finish(workspace, home, graph, address, mark, record)
    except Exception as fault:
        code, sentence = explain(fault)
        if code == BROKE:
            log.error("%s", traceback.format_exc())
        log.error("%s: its outputs stand, its manifest does not: %s", address, sentence)
        return _leave_failed(workspace, home, graph, address, mark, record, code, sentence)
    mark.settled = True
    return NOT_PROMOTED if manifest["promoted"] is False else DONE


def told_when_it_starts(
    workspace: Path, home: Path, graph: Graph, address: str, mark: Mark
) -> AbstractContextManager[None]:
    """While the body runs: the event START, as soon as the stage itself begins, if an orchestrator asked for it."""
    if mark.about["airflow"] is None:
        # without an orchestrator the try's number is known at its end only: attempts that were killed are told of first
        return nullcontext()
    begun_record = attempt_path(attempts_folder(workspace, *split_address(address)), mark.about["attempt"])
    so_far = {**mark.about, "ended": mark.about["started"]}
    return started_when(
        begun_record.exists, lambda: {**describe_failed(workspace, graph, address, so_far, DONE, ""), DIGEST: ""}, home
    )


def bury_killed(workspace: Path, home: Path, graph: Graph, address: str) -> None:
    """Write the manifests of the attempts at a stage that were killed before they could."""
    for about in abandoned(workspace, address):
        record = read_attempt(workspace, address, about["attempt"]) or {}
        code = record.get("exit_code") or KILLED
        message = record["message"] if record.get("exit_code") else "killed (a KILL signal or the memory limit)"
        ended = {**about, "ended": now(), **record}
        keep_manifest(workspace, home, describe_failed(workspace, graph, address, ended, code, message))
        forget(workspace, address, about["attempt"])


def read_attempt(workspace: Path, address: str, attempt: str) -> dict[str, Any] | None:
    """The stage's own record of an attempt; None if the stage did not begin."""
    path = attempt_path(attempts_folder(workspace, *split_address(address)), attempt)
    return json.loads(path.read_text()) if path.exists() else None


def _finish(
    workspace: Path, home: Path, graph: Graph, address: str, mark: Mark, record: dict[str, Any] | None
) -> dict[str, Any]:
    """Describe what stands, let MLflow know, and keep the manifest: in this order, so that it is never changed."""
    made_by = record or _unclaimed(workspace, graph, address)
    if record is None and made_by is not None:
        log.info("%s: done by attempt %s, which could not write its manifest", address, made_by["attempt"])
    restored = {**mark.about, "ended": now(), **mark.spent()}
    attempt = {**made_by, "airflow": mark.about["airflow"]} if made_by else restored
    manifest = describe_done(workspace, home, graph, address, attempt, executed=made_by is not None)
    if made_by is None:
        log.info("%s: restored from the cache: %s", address, manifest["message"])
    elif not graph.stages[split_address(address)[0]].always_changed:
        manifest["mlflow_run_id"] = track_stage(workspace, manifest)
    return keep_manifest(workspace, home, manifest)


def _unclaimed(workspace: Path, graph: Graph, address: str) -> dict[str, Any] | None:
    """The attempt of this run that made the outputs and could not finish: MLflow was away, or it was killed."""
    name, target = split_address(address)
    claimed = {m["attempt"] for m in read_every_attempt(workspace) if m["source"] != FAILED}
    records = [json.loads(path.read_text()) for path in attempts_folder(workspace, name, target).glob("[!.]*.json")]
    done = [r for r in records if r.get("exit_code") == DONE and r["attempt"] not in claimed]
    latest = max(done, key=lambda r: str(r["ended"]), default=None)
    if latest is None:
        return None
    same = latest["fingerprint"] == work_fingerprint(workspace, graph.stages[name], target, latest["parameters"])
    return latest if same else None


def _failure(address: str, record: dict[str, Any] | None, dvc_code: int) -> tuple[int, str]:
    """(exit code, sentence) of an attempt that DVC says failed; what the stage has not said itself is logged."""
    if record is None:
        code, sentence = (
            PASSING_FAULT,
            f"DVC ended with {dvc_code} before the stage began; its own message stands above",
        )
    elif "exit_code" not in record:
        limit = memory_limit()
        by_whom = (
            limit.sentence() if limit and limit.kills else "the process was killed (a KILL signal or the memory limit)"
        )
        code, sentence = KILLED, f"{by_whom}; the retry resumes"
    elif record["exit_code"] == DONE:
        code, sentence = PASSING_FAULT, f"the stage was done, but DVC could not keep its outputs (exit {dvc_code})"
    else:
        limit = memory_limit() if record["image"] else None  # a container is one stage's: what was killed was its child
        told = f"; {limit.sentence()}" if limit and limit.kills else ""
        return record["exit_code"], record["message"] + told
    log.error("%s: %s", address, sentence)
    return code, sentence


def _leave_failed(
    workspace: Path, home: Path, graph: Graph, address: str, mark: Mark,
    record: dict[str, Any] | None, code: int, sentence: str,
) -> int:  # fmt: skip
    attempt = {**mark.about, **mark.spent(), **(record or {}), "ended": now()}
    try:
        keep_manifest(workspace, home, describe_failed(workspace, graph, address, attempt, code, sentence))
        mark.settled = True
    except Exception as fault:
        # why the stage ended comes first; the mark stays, and the next attempt writes what could not be written
        log.warning("%s: the manifest of this failed attempt must wait: %s", address, explain(fault)[1])
    return code
