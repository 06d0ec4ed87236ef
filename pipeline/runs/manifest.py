"""The manifest of a stage in a run: what it read, what it wrote, with which code and parameters, at what cost.

Built from the attempt's own record and from `dvc.lock`, after the outputs stand: no manifest, no result.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import yaml

from pipeline.graph import Graph, split_address
from pipeline.runs.attempt import write_json
from pipeline.runs.workspace import run_record
from pipeline.runs.wrapper import RUN_FOLDER, read_summary

EXECUTED, CACHED = "executed", "cached"


def manifest_path(workspace: Path, address: str) -> Path:
    """Where the manifest of a stage stands while its run is open."""
    return workspace / RUN_FOLDER / "manifests" / f"{address}.json"


def write_manifest(workspace: Path, graph: Graph, address: str, attempt: dict[str, Any] | None) -> dict[str, Any]:
    """Write and return the manifest of a finished stage; `attempt` is None when its output came from the cache."""
    name, target = split_address(address)
    locked = _locked(workspace, address)
    summary = read_summary(workspace, graph.stages[name], target)
    run = run_record(workspace)
    manifest = {
        "stage": address,
        "run_id": run["run_id"],
        "as_of": run["as_of"],
        "commit": run["commit"],
        "environment": _environment_hash(workspace),
        "source": CACHED if attempt is None else EXECUTED,
        "found": summary["found"],
        "metrics": summary["metrics"],
        "promoted": summary["promoted"],
        "inputs": _files(locked.get("deps", [])),
        "outputs": _files(locked.get("outs", [])),
        "parameters": locked.get("params", {}).get("params.yaml", {}),
        "attempt": attempt,
    }
    manifest["sha256"] = hashlib.sha256(json.dumps(manifest, sort_keys=True, default=str).encode()).hexdigest()
    write_json(manifest_path(workspace, address), manifest)
    return manifest


def read_manifests(folder: Path) -> dict[str, dict[str, Any]]:
    """Every manifest of a run (its workspace or its record), by stage address."""
    manifests = manifest_path(folder, "any").parent
    return {path.stem: json.loads(path.read_text()) for path in sorted(manifests.glob("[!.]*.json"))}


def _locked(workspace: Path, address: str) -> dict[str, Any]:
    lock = workspace / "dvc.lock"
    stages = (yaml.safe_load(lock.read_text()) or {}).get("stages", {}) if lock.exists() else {}
    found: dict[str, Any] = stages.get(address, {})
    return found


def _files(entries: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    kept = ("md5", "size", "nfiles")
    return {entry["path"]: {key: entry[key] for key in kept if key in entry} for entry in entries}


def _environment_hash(workspace: Path) -> str:
    return hashlib.sha256((workspace / "requirements" / "stages.txt").read_bytes()).hexdigest()
