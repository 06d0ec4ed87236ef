"""The careful wrapper around a stage's pure function: `warmstart stage NAME [--target T]`, as `dvc.yaml` calls it.

It validates the parameters, takes the lease, checks the inputs, gives the function temporary output folders, publishes
them whole, and leaves a record of the attempt. It ends with one of the exit codes of `pipeline.exit_codes`.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import logging
import math
import os
import shutil
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from pipeline.exit_codes import BROKE, DONE, BadConfiguration
from pipeline.graph import ITEM, Stage, load_graph
from pipeline.runs.attempt import Attempt
from pipeline.runs.contract import Job, Summary
from pipeline.runs.faults import explain
from pipeline.runs.follower import follow, is_follower
from pipeline.runs.lease import lease
from pipeline.runs.parameters import read_params, stage_params
from pipeline.runs.publish import keep_for_inspection, publish, stage_outputs

log = logging.getLogger(__name__)

# What a run leaves beside its data; ignored by git and DVC.
RUN_FOLDER = "run"
SUMMARY = "summary.json"


def run_stage(root: Path, name: str, target: str | None) -> int:
    """Run stage `name` in the workspace or checkout `root`; returns the exit code and never raises for a fault.

    The sentence that explains a failure is logged and kept in the attempt's record.
    """
    try:
        stage = _find(root, name, target)
        params = stage_params(stage, read_params(root / "params.yaml"))
        inputs = _inputs(root, stage, target)
    except BadConfiguration as fault:
        log.error("%s", fault)
        Attempt(attempts_folder(root, name, target), name, {}, "").end(fault.exit_code, str(fault), {})
        return fault.exit_code

    address = stage.address(target)
    outs = {_generic(out): root / out.replace(ITEM, target or "") for out in stage.outs}
    fingerprint = work_fingerprint(root, stage, target, params.model_dump(mode="json"))
    scratch = root / RUN_FOLDER / "scratch" / address / fingerprint
    staging = root / RUN_FOLDER / "staging" / address
    job = Job(scratch, target, _pin_threads(stage), _run_record(root))
    if is_follower():
        return follow(importlib.import_module(f"pipeline.stages.{name}").run, inputs, outs, params, job)
    with lease(root / RUN_FOLDER / "leases" / address):
        attempt = Attempt(attempts_folder(root, name, target), address, params.model_dump(mode="json"), fingerprint)
        try:
            scratch.mkdir(parents=True, exist_ok=True)
            folders = stage_outputs(staging, outs)
            run: Callable[..., Summary] = importlib.import_module(f"pipeline.stages.{name}").run
            summary = run(inputs, folders, params, job)
            _write_summary(folders[_generic(stage.outs[0])], summary)
            publish(folders, outs)
        except Exception as fault:
            code, sentence = explain(fault)
            if code == BROKE:
                log.error("%s", traceback.format_exc())
            log.error("%s: %s", address, sentence)
            keep_for_inspection(staging, root / RUN_FOLDER / "failed" / address)
            attempt.end(code, sentence, {}, getattr(fault, "facts", {}))
            return code
        log.info("%s: %s", address, summary.found)
        attempt.end(DONE, summary.found, dict(summary.metrics))
        shutil.rmtree(scratch, ignore_errors=True)
        return DONE


def attempts_folder(root: Path, name: str, target: str | None) -> Path:
    """Where the attempts at one stage leave their records."""
    return root / RUN_FOLDER / "attempts" / (f"{name}@{target}" if target else name)


def read_summary(root: Path, stage: Stage, target: str | None) -> dict[str, Any]:
    """What a finished stage found, from its output (which may have come from the cache).

    Raises:
        FileNotFoundError: the stage has no output here.
    """
    path = root / stage.outs[0].replace(ITEM, target or "") / SUMMARY
    found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return found


def locked_digests(root: Path) -> dict[str, str]:
    """md5 of every output that `dvc.lock` knows, by path."""
    lock = root / "dvc.lock"
    stages = (yaml.safe_load(lock.read_text()) or {}).get("stages", {}) if lock.exists() else {}
    return {out["path"]: out["md5"] for body in stages.values() for out in body.get("outs", []) if "md5" in out}


def _find(root: Path, name: str, target: str | None) -> Stage:
    graph = load_graph(root / "dvc.yaml")
    if name not in graph.stages:
        raise BadConfiguration(f"{root / 'dvc.yaml'} has no stage {name!r}; it has {', '.join(graph.stages)}")
    stage = graph.stages[name]
    if stage.per_target and not target:
        raise BadConfiguration(f"stage {name} works on one target domain; give --target")
    if target and not stage.per_target:
        raise BadConfiguration(f"stage {name} works on all domains at once; leave --target {target} out")
    return stage


def _generic(path: str) -> str:
    # `models/teacher/${item}` is `models/teacher` to the function: the target is the job's
    return path.removesuffix(f"/{ITEM}")


def _inputs(root: Path, stage: Stage, target: str | None) -> dict[str, Path]:
    inputs = {_generic(path): root / path.replace(ITEM, target or "") for path in stage.data}
    for path in inputs.values():
        if not path.exists():
            raise BadConfiguration(
                f"{stage.address(target)} reads {path}, which is not there; run the stages above it: "
                f"dvc repro {stage.address(target)}"
            )
    return inputs


def work_fingerprint(root: Path, stage: Stage, target: str | None, params: dict[str, Any]) -> str:
    """Names the work, not the attempt: code, parameters and inputs. A retry finds its checkpoints by it."""
    digests = locked_digests(root)
    seen: dict[str, Any] = {
        "params": params,
        "command": stage.command,
        "target": target,
        "code": {},
        "data": {},
    }
    for path in stage.code:
        files = [root / path] if (root / path).is_file() else sorted((root / path).rglob("*"))
        for file in files:
            if file.is_file() and file.suffix != ".pyc":
                seen["code"][str(file.relative_to(root))] = hashlib.md5(file.read_bytes()).hexdigest()
    for path in stage.data:
        spelled = path.replace(ITEM, target or "")
        seen["data"][spelled] = digests.get(spelled, "not locked")
    return hashlib.sha256(json.dumps(seen, sort_keys=True).encode()).hexdigest()[:16]


def _pin_threads(stage: Stage) -> int:
    # On a shared machine two OpenMP threads too many are five times slower; results also depend on their number.
    threads = int(stage.meta.get("cpus", 1))
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS"):
        os.environ[variable] = str(threads)
    return threads


def _run_record(root: Path) -> dict[str, str]:
    path = root / "run.yaml"
    return yaml.safe_load(path.read_text()) if path.exists() else {}


def _write_summary(folder: Path, summary: Summary) -> None:
    for name, value in summary.metrics.items():
        if not math.isfinite(value):
            raise ValueError(f"metric {name} is {value}; a metric must be a finite number")
    content = {
        "found": summary.found,
        "metrics": dict(summary.metrics),
        "promoted": summary.promoted,
        "facts": dict(summary.facts),
    }
    text = json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    (folder / SUMMARY).write_text(text + "\n", "utf-8")
