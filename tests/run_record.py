"""The record of a run that never was: manifests, reports and receipts of plausible size, for tests of what reads them.

make_record(home / "records" / "a-run", targets=("harbour", "orchard"))
make_record(folder, failed="validate", code=65, message="metro/interactions: 4.2 % of the rows are …")
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from pipeline.graph import ITEM, load_graph, split_address

CHECKOUT = Path(__file__).resolve().parents[1]
OPENED = datetime(2026, 1, 1, 2, 0, 3, tzinfo=UTC)
SECONDS = {"snapshot": 6, "validate": 9, "features": 14, "materialize": 5, "embed": 21, "pretrain": 318, "augment": 0.2,
           "transfer": 74, "distill": 52, "prune": 33, "evaluate": 11, "register": 7}  # fmt: skip
FOUND = {
    "snapshot": "482,113 interactions, 31,402 items, 58,210 users in 4 domains before 2026-01-01",
    "validate": "482,101 of 482,113 interactions kept, 12 in quarantine; every contract holds",
    "features": "412,870 training interactions; test users: harbour 5,012, orchard 3,377",
    "pretrain": "metro, valley: 1,594,496 parameters, 9 epochs, valid NDCG@10 0.1821",
}
MODELS = [("popularity", "baseline", 0.061), ("recent popularity", "baseline", 0.066), ("item-kNN", "baseline", 0.094),
          ("content-kNN", "baseline", 0.071), ("backbone", "model", 0.102), ("teacher", "model", 0.131),
          ("student", "model", 0.127), ("served", "model", 0.125),
          ("oracle (known truth)", "oracle", 0.188)]  # fmt: skip
KILL = "killed (a KILL signal or the memory limit)"
SLICES = {"user cold": 412, "user few": 1930, "user warm": 2670, "item cold": 388, "item warm": 4624}


def digest(*words: object) -> str:
    """A stable md5 of anything."""
    return hashlib.md5(repr(words).encode()).hexdigest()


def sealed(manifest: dict[str, Any]) -> dict[str, Any]:
    """A manifest with its own sha256, over canonical JSON."""
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return {**manifest, "sha256": hashlib.sha256(text.encode()).hexdigest()}


def make_record(
    folder: Path,
    *,
    run_id: str = "scheduled__2026-01-01T02:00:00+00:00",
    targets: tuple[str, ...] = ("harbour", "orchard"),
    cached: tuple[str, ...] = (),
    failed: str | None = None,
    code: int = 137,
    message: str = "",
    verdicts: tuple[str, ...] = ("promote", "hold"),
    data: str = "world:medium",
    closed: bool = True,
) -> Path:
    """Write the record of a run and return its folder; stages below `failed` have not run."""
    folder.mkdir(parents=True)
    shutil.copyfile(CHECKOUT / "dvc.yaml", folder / "dvc.yaml")
    graph = load_graph(folder / "dvc.yaml")
    edges = graph.addresses(targets)
    blocked: set[str] = {failed} if failed else set()
    at, manifests = OPENED, {}
    for address, waits in edges.items():
        if address in blocked or blocked & set(waits):
            blocked.add(address)
            continue
        source = "cached" if address in cached else "executed"
        manifest = _manifest(graph, address, run_id, source, at, manifests)
        manifests[address] = manifest
        _write(folder / "run" / "manifests" / f"{address}.json", manifest)
        _write(folder / "run" / "manifests" / "attempts" / address / f"{manifest['sha256']}.json", manifest)
        if source == "executed":
            _attempt(folder, address, manifest["attempt"], at, manifest["ended"], 0, manifest["message"])
        at += timedelta(seconds=SECONDS[split_address(address)[0]])
    if failed:
        ended = None if code == 137 else (at + timedelta(seconds=4)).isoformat()
        _attempt(folder, failed, digest(run_id, failed)[:12], at, ended, code, message)
        if closed:
            broken = _manifest(graph, failed, run_id, "failed", at, manifests)
            broken = {**broken, "exit_code": code, "outputs": {}, "message": message or KILL, "came_from": None}
            broken = sealed({key: value for key, value in broken.items() if key != "sha256"})
            _write(folder / "run" / "manifests" / "attempts" / failed / f"{broken['sha256']}.json", broken)
    unfinished = [address for address in edges if address not in manifests]
    run = {
        "run_id": run_id, "as_of": "2026-01-01T00:00:00Z", "data": data, "targets": list(targets), "overrides": [],
        "commit": digest("commit") + "0a1b2c3d", "git_ref": "HEAD", "promote": True, "opened": OPENED.isoformat(),
        "origin": "scheduled",
    }  # fmt: skip
    if closed:
        run |= {"closed": at.isoformat(), "finished": not unfinished, "unfinished": unfinished}
    (folder / "run.yaml").write_text(yaml.safe_dump(run, sort_keys=False))
    if "validate" in manifests:
        _write(folder / "reports/validation/results.json", validation_results())
        (folder / "reports/validation/index.html").write_text("<!doctype html><title>Validation</title>")
    elif failed == "validate":
        _write(folder / "run/failed/validate/reports/validation/results.json", validation_results(stops=True))
    for index, target in enumerate(targets):
        if f"evaluate@{target}" in manifests:
            report = folder / "reports" / "evaluation" / target
            _write(report / "metrics.json", metrics(target))
            (report / "report.html").write_text("<!doctype html><title>Evaluation</title>")
        if f"register@{target}" in manifests:
            verdict = verdicts[index % len(verdicts)]
            _write(folder / "receipts" / "register" / target / "receipt.json", receipt(target, verdict))
    return folder


def _manifest(
    graph: Any, address: str, run_id: str, source: str, at: datetime, above: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    name, target = split_address(address)
    stage = graph.stages[name]
    made = {path: one for manifest in above.values() for path, one in manifest["outputs"].items()}
    maker = {path: manifest["sha256"] for manifest in above.values() for path in manifest["outputs"]}
    reads = [path.replace(ITEM, target or "") for path in (*stage.data, *stage.code)]
    inputs = {
        path: {"md5": made[path]["md5"], "bytes": made[path]["bytes"], "files": made[path]["nfiles"]}
        if path in made
        else {"md5": digest(path), "bytes": 4096, "files": 1}
        for path in reads
    }
    outputs = {path: _output(path) for path in (out.replace(ITEM, target or "") for out in stage.outs)}
    seconds = {"executed": SECONDS[name], "cached": 0.4, "failed": 4}[source]
    return sealed({
        "format": 1, "run_id": run_id, "stage": address, "attempt": digest(run_id, address)[:12], "try": 1,
        "source": source, "came_from": digest("earlier") * 2 if source == "cached" else None, "exit_code": 0,
        "message": FOUND.get(name, f"{name} done"), "as_of": "2026-01-01T00:00:00Z",
        "started": at.isoformat(timespec="milliseconds"),
        "ended": (at + timedelta(seconds=seconds)).isoformat(timespec="milliseconds"),
        "airflow": {
            "dag_id": "retrain", "run_id": run_id, "task_id": f"target.{name}" if target else name, "map_index": -1,
            "try_number": 1, "url": f"http://127.0.0.1:8080/dags/retrain/runs/{run_id}/tasks/{name}",
        },
        "origin": "scheduled", "code": {"commit": digest("commit") + "0a1b2c3d", "clean": True},
        "environment": {"lock": digest("lock") * 2, "image": None}, "parameters": {name: {"epochs": 9}, "seed": 7},
        "inputs": inputs, "outputs": outputs,
        "sources": {"harbour/interactions": {"place": "events/*.parquet", "md5": digest("s"), "rows": 9}}
        if name == "snapshot" else {},
        "validation": {
            "suites": {"interactions": digest("suite") * 2}, "success": True,
            "quarantined": {"metro/interactions": {"no user": 9, "time before 1990": 3}},
        } if name == "validate" else None,
        "features": None, "model": None, "mlflow_run_id": digest("mlflow", address), "metrics": {"valid_ndcg10": 0.182},
        "promoted": None, "machine": {"cores": 8}, "cpu_seconds": seconds * 1.7, "peak_memory_bytes": 731_000_000,
        "parents": {path: maker[path] for path in reads if path in maker},
    })  # fmt: skip


def _output(path: str) -> dict[str, Any]:
    rng = random.Random(path)
    files: list[dict[str, Any]] = [{"path": "summary.json", "md5": digest(path, "summary"), "bytes": 214}]
    rows = None
    if path.startswith("data/"):
        rows = rng.randrange(40_000, 900_000)
        columns = {"user_id": "string", "item_id": "string", "timestamp": "timestamp[us, tz=UTC]"}
        files.append({
            "path": "harbour/interactions/2025-11.parquet", "md5": digest(path, "rows"), "bytes": rows * 21,
            "rows": rows, "columns": columns, "from": "2025-11-01T00:04:11+00:00", "to": "2025-11-30T23:58:02+00:00",
        })  # fmt: skip
    found = {
        "md5": digest(path) + ".dir",
        "bytes": sum(file["bytes"] for file in files) + rng.randrange(9_000_000),
        "nfiles": len(files),
        "files": files,
    }
    return found if rows is None else {**found, "rows": rows}


def _attempt(folder: Path, address: str, name: str, at: datetime, ended: str | None, code: int, message: str) -> None:
    record = {"attempt": name, "stage": address, "started": at.isoformat(timespec="milliseconds")}
    if ended:
        record |= {"ended": ended, "exit_code": code, "message": message}
    _write(folder / "run" / "attempts" / address / f"{name}.json", record)


def metrics(target: str) -> dict[str, Any]:
    """metrics.json of a target."""
    rng = random.Random(target)

    def figure(value: float, n: int) -> dict[str, Any]:
        half = 0.9 * value / n**0.5 * 4
        return {"value": value, "low": max(0.0, value - half), "high": value + half, "n": n}

    models = []
    for name, kind, value in MODELS:
        value *= rng.uniform(0.96, 1.04)
        slices = {
            part: {"n": n, "ndcg10": figure(value * rng.uniform(0.4, 1.3), n), "hr10": figure(value * 1.8, n)}
            for part, n in SLICES.items()
        }
        block = {name: figure(value, 5012) for name in ("ndcg10", "hr10", "ndcg20", "hr20", "mrr", "auc")}
        models.append(
            {"name": name, "kind": kind, "masked": block, "slices": slices, "parameters": None, "bytes": None}
        )
    return {"target": target, "n": 5012, "n_items": 9120, "protocol": "temporal", "confidence": 0.95,
            "models": models, "differences": []}  # fmt: skip


def receipt(target: str, verdict: str) -> dict[str, Any]:
    """receipt.json of a target."""
    against = (
        ("champion", "all", 0.124, 0.0012, -0.0021, 0.0044, -0.0025, "passed"),
        ("item-kNN", "all", 0.094, 0.0311, 0.0252, 0.0369, 0.0, "passed"),
        ("popularity", "all", 0.061, 0.0642, 0.0571, 0.0713, 0.0, "passed"),
        (
            "champion",
            "user cold",
            0.081,
            -0.0104,
            -0.0191,
            -0.0017,
            -0.0081,
            "passed" if verdict == "promote" else "failed",
        ),
        ("champion", "item cold", 0.092, 0.0091, -0.0172, 0.0354, None, "too few to judge"),
    )
    names = ("against", "part", "other", "difference", "low", "high", "limit", "status")
    comparisons = [dict(zip(names, row, strict=True), challenger=0.125, n=5012) for row in against]
    budgets = [
        {"name": "size", "unit": "bytes", "found": 1_418_240, "limit": 50_000_000, "status": "passed"},
        {"name": "latency, p50", "unit": "ms", "found": 0.38, "limit": None, "status": "no limit"},
        {"name": "age", "unit": "days", "found": None, "limit": 2, "status": "cannot be judged"},
    ]
    reasons = {
        "promote": ["+0.0642 [+0.0571, +0.0713] over popularity", "+0.0311 [+0.0252, +0.0369] over item-kNN",
                    "+0.0012 [-0.0021, +0.0044] against the champion"],
        "hold": ["may be worse than the champion by more than 2% (-0.0031 [-0.0069, +0.0004])"],
        "refuse": ["the challenger has a figure that is not finite"],
    }[verdict]  # fmt: skip
    return {"target": target, "model": f"rec-{target}", "version": 17, "verdict": verdict, "reasons": reasons,
            "gate": {"verdict": verdict, "reasons": reasons, "budgets": budgets, "rules": {"margin": 0.02},
                     "sha256": digest("v") * 2, "comparisons": comparisons if verdict != "refuse" else []},
            "champion_before": 16, "champion": 17 if verdict == "promote" else 16, "decision": None}  # fmt: skip


def validation_results(stops: bool = False) -> dict[str, Any]:
    """results.json of a validation."""
    tables = []
    for domain in ("metro", "valley", "harbour", "orchard"):
        for table, rows in (("interactions", 120_528), ("items", 7_850), ("users", 14_552)):
            bad = 12 if (domain, table) == ("metro", "interactions") else 0
            if bad and stops:
                bad = 5_062
            rule = {"rule": "a user is named", "level": "row", "why": "a row without a user teaches nothing",
                    "expectation": "expect_column_values_to_not_be_null",
                    "broken_rows": bad, "example": None}  # fmt: skip
            tables.append({"domain": domain, "table": table, "rows": rows, "kept": rows - bad, "quarantined": bad,
                           "rules": [rule]})  # fmt: skip
    return {"as_of": "2026-01-01T00:00:00Z", "max_quarantined_share": 0.01, "tables": tables}


def _write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1))
