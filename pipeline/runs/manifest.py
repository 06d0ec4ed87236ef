"""The manifest of an attempt at a stage: what it read, what it wrote, with which code and parameters, at what cost.

Written last, after the outputs and after MLflow knows of them, and never changed: no manifest, no result. It is kept
in the store by content (`pipeline.runs.manifest_store`), and copied to the run it belongs to:

    run/manifests/<address>.json                    of the attempt whose outputs stand
    run/manifests/attempts/<address>/<sha256>.json  of every attempt, the failed ones too
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.exit_codes import DONE, BadConfiguration, PassingFault
from pipeline.graph import ITEM, Graph, split_address
from pipeline.openlineage.delivery import emit
from pipeline.runs import manifest_store
from pipeline.runs.attempt import write_json
from pipeline.runs.contents import contents_of, list_users
from pipeline.runs.dvc_lock import locked_outputs, locked_stages
from pipeline.runs.manifest_store import DIGEST, FORMAT, canonical
from pipeline.runs.workspace import run_record
from pipeline.runs.wrapper import RUN_FOLDER, read_summary

log = logging.getLogger(__name__)

EXECUTED, CACHED, FAILED = "executed", "cached", "failed"
ATTEMPTS = "attempts"
COST = ("machine", "cpu_seconds", "peak_memory_bytes")


def manifest_path(folder: Path, address: str) -> Path:
    """Where a run (its workspace or its record) has the manifest of a stage that is done."""
    return folder / RUN_FOLDER / "manifests" / f"{address}.json"


def read_manifests(folder: Path) -> dict[str, dict[str, Any]]:
    """The manifests of the stages of a run that are done, by stage address."""
    return {path.stem: _read(path) for path in sorted(manifest_path(folder, "any").parent.glob("[!.]*.json"))}


def read_every_attempt(folder: Path) -> list[dict[str, Any]]:
    """The manifests of all attempts of a run, failed and repeated ones too, in the order in which they began."""
    found = (manifest_path(folder, "any").parent / ATTEMPTS).glob("*/[!.]*.json")
    return sorted(map(_read, found), key=lambda manifest: (manifest["started"], manifest["try"], manifest[DIGEST]))


def describe_done(
    workspace: Path, home: Path, graph: Graph, address: str, attempt: Mapping[str, Any], executed: bool
) -> dict[str, Any]:
    """The manifest of a stage whose outputs stand; complete but for MLflow's run.

    Args:
        attempt: attempt, started, ended, airflow, machine, cpu_seconds, peak_memory_bytes; of the process that made
            the outputs, or of the one that restored them.
        executed: False if they came from the cache.

    Raises:
        PassingFault: DVC's lock file does not know the outputs.
    """
    name, target = split_address(address)
    locked = locked_stages(workspace).get(address)
    if locked is None:
        raise PassingFault(f"{workspace / 'dvc.lock'} has no entry for {address}, though DVC reported it done")
    summary = read_summary(workspace, graph.stages[name], target)
    maker = None if executed else _maker(home, _work(address, locked))
    manifest = _described(workspace, graph, address, attempt, summary.get("facts", {}))
    return manifest | {
        "source": EXECUTED if executed else CACHED,
        "came_from": maker[DIGEST] if maker else None,
        "exit_code": DONE,
        "message": _one_line(summary["found"]),
        "metrics": summary["metrics"],
        "promoted": summary["promoted"],
        "parameters": _plain(locked.get("params", {}).get("params.yaml", {})),
        "inputs": {dep["path"]: _input(dep) for dep in locked.get("deps", [])},
        "outputs": _outputs(workspace, home, locked, maker),
    }


def describe_failed(
    workspace: Path, graph: Graph, address: str, attempt: Mapping[str, Any], exit_code: int, message: str
) -> dict[str, Any]:
    """The manifest of an attempt that failed or was killed: what it was given, and how it ended.

    Its inputs are the data alone: DVC had no reason to hash the code, which the commit names anyway.
    """
    known = locked_outputs(workspace)
    spelled = (
        path.replace(ITEM, split_address(address)[1] or "") for path in graph.stages[split_address(address)[0]].data
    )
    return _described(workspace, graph, address, attempt, attempt.get("facts", {})) | {
        "source": FAILED,
        "came_from": None,
        "exit_code": exit_code,
        "message": _one_line(message),
        "metrics": attempt.get("metrics", {}),
        "promoted": None,
        "parameters": _plain(attempt.get("parameters", {})),
        "inputs": {path: _input(known[path]) for path in spelled if path in known},
        "outputs": {},
    }


def keep_manifest(workspace: Path, home: Path, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Put a manifest into the store and copies of it into the run; returns it with its sha256."""
    address = manifest["stage"]
    sha = manifest_store.put(home, manifest)
    kept = {**manifest, DIGEST: sha}
    folder = manifest_path(workspace, address).parent
    write_json(folder / ATTEMPTS / address / f"{sha}.json", kept)
    if manifest["source"] == EXECUTED:
        manifest_store.remember_maker(home, _work(address, locked_stages(workspace)[address]), sha)
    if manifest["source"] != FAILED:
        write_json(manifest_path(workspace, address), kept)
    if manifest["source"] != CACHED:  # those are told of when the run is closed
        emit(kept, home)
    return kept


def _described(
    workspace: Path, graph: Graph, address: str, attempt: Mapping[str, Any], facts: Mapping[str, Any]
) -> dict[str, Any]:
    """What every manifest has, whatever became of the attempt."""
    run = run_record(workspace)
    airflow = attempt.get("airflow")
    before = manifest_path(workspace, address).parent / ATTEMPTS / address
    return {
        "format": FORMAT,
        "run_id": run["run_id"],
        "stage": address,
        "attempt": attempt["attempt"],
        "try": airflow["try_number"] if airflow else 1 + len(list(before.glob("[!.]*.json"))),
        "as_of": run["as_of"],
        "started": attempt["started"],
        "ended": attempt["ended"],
        "airflow": airflow,
        "origin": run.get("origin"),
        # clean by construction: a workspace is an extract of the commit (`open_workspace`)
        "code": {"commit": run["commit"], "clean": True},
        "environment": {"lock": _sha256(workspace / "requirements" / "stages.txt"), "image": attempt.get("image")},
        "sources": facts.get("sources", {}),
        "validation": facts.get("validation"),
        "features": facts.get("features"),
        "model": facts.get("model"),
        "mlflow_run_id": None,
        "parents": _parents(workspace, graph, address),
        **{name: attempt.get(name) for name in COST},
    }


def _maker(home: Path, work: str) -> dict[str, Any] | None:
    """The manifest of the attempt that made what came from the cache; None if this home has not seen it."""
    sha = manifest_store.maker_of(home, work)
    try:
        return manifest_store.get(home, sha) if sha else None
    except BadConfiguration as fault:
        # the outputs are whole, DVC has checked them; only where they came from is lost
        log.warning("%s; this stage's manifest cannot say where its outputs came from", fault)
        return None


def _outputs(workspace: Path, home: Path, locked: Mapping[str, Any], maker: Mapping[str, Any] | None) -> dict[str, Any]:
    if maker is not None:
        found: dict[str, Any] = maker["outputs"]  # the same content, described already
    else:
        found = {out["path"]: contents_of(workspace, home, out) for out in locked.get("outs", [])}
    for path, contents in found.items():
        list_users(workspace, home, path, contents)
    return found


def _parents(workspace: Path, graph: Graph, address: str) -> dict[str, str]:
    """sha256 of the manifest of the stage that gave each input, as it stands in this run."""
    name, target = split_address(address)
    parents = {}
    for path in graph.stages[name].data:
        for above in (graph.stages[known] for known in graph.upstream(name)):
            manifest = manifest_path(workspace, above.address(target))
            if path in above.outs and manifest.exists():
                parents[path.replace(ITEM, target or "")] = _read(manifest)[DIGEST]
    return parents


def _work(address: str, locked: Mapping[str, Any]) -> str:
    """Names what a stage did by all that DVC tells apart: command, inputs, parameters and outputs."""
    seen = {name: locked.get(name) for name in ("cmd", "deps", "params", "outs")}
    return hashlib.sha256(canonical(_plain({"stage": address, **seen}))).hexdigest()


def _input(locked: Mapping[str, Any]) -> dict[str, Any]:
    return {"md5": locked["md5"], "bytes": locked.get("size"), "files": locked.get("nfiles", 1)}


def _plain(value: Any) -> Any:
    """YAML may hold dates; JSON has none."""
    return json.loads(json.dumps(value, default=str))


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _read(path: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return manifest


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
