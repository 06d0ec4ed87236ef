"""Real runs, asked where their models came from: every hop resolves, with the run's folders there and without them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from pipeline.follow.airflow_api import DAG
from pipeline.graph import load_graph
from pipeline.runs.tracking import STAGE_TAG, client
from pipeline.settings import CHECKOUT

GRAPH = load_graph(CHECKOUT / "dvc.yaml")


def lineage(*words: str) -> dict:
    """The answer of `warmstart lineage … --json`."""
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "lineage", *words, "--json"],
        cwd=CHECKOUT, capture_output=True, text=True, env=dict(os.environ),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def version_of(ended, target: str) -> int:
    receipt = json.loads((ended.record / "receipts/register" / target / "receipt.json").read_text())
    return receipt["version"]


def test_every_hop_of_a_real_model_resolves(first):
    found = lineage("model", f"rec-harbour/{version_of(first, 'harbour')}")
    steps = {step["stage"]: step for step in found["steps"]}
    above = {"snapshot", "validate", "features", "embed", "pretrain"}
    assert set(steps) >= above | {f"{name}@harbour" for name in ("transfer", "distill", "prune", "evaluate")}
    for step in steps.values():
        assert step["source"] == "executed"
        assert set(step["parents"]) <= set(steps), step
        assert (step["stage"] == "snapshot") == (not step["parents"]), step
    assert found["unresolved"] == []
    assert "orchard" not in "".join(steps)
    assert found["files"]
    assert found["airflow"]["run_id"] == first.run_id
    assert found["code"]["commit"] == yaml.safe_load((first.record / "run.yaml").read_text())["commit"]


def test_a_raw_file_leads_to_the_models_that_learned_from_it(first):
    snapshot = first.manifests["snapshot"]["outputs"]["data/snapshot"]
    month = next(file for file in snapshot["files"] if "harbour/interactions" in file["path"])
    found = lineage("file", month["md5"])
    assert {"rec-harbour", "rec-orchard"} <= {version["name"] for version in found["touched"]["versions"]}


def test_what_a_run_left_is_what_its_manifests_say(first):
    assert lineage("verify", first.run_id)["altered"] == []


def test_a_version_knows_its_manifest_and_the_runs_page_is_linked(night, first):
    version = client().get_model_version("rec-harbour", str(version_of(first, "harbour")))
    assert version.tags["warmstart.manifest"] == first.manifests["prune@harbour"]["sha256"]
    assert (first.record / "run.html").exists()
    mlflow = client()
    experiment = mlflow.get_experiment_by_name("warmstart").experiment_id
    query = f"tags.`warmstart.run_id` = '{first.run_id}' and tags.`{STAGE_TAG}` = 'run'"
    [parent] = mlflow.search_runs([experiment], query)
    assert parent.data.tags["warmstart.run_page"]
    links = night.api._get(f"/api/v2/dags/{DAG}/dagRuns/{first.run_id}/taskInstances/pretrain/links")
    assert links["extra_links"]["Run page"]


def test_events_of_every_stage_went_out(first):
    folder = first.settings.home / "openlineage"
    lines = [json.loads(line) for path in folder.glob("*.jsonl") for line in path.read_text().splitlines()]
    told = {event["job"]["name"] for event in lines if event["eventType"] == "COMPLETE"}
    assert {f"{DAG}.{address}" for address in GRAPH.addresses(["harbour", "orchard"])} <= told


def test_lineage_outlives_the_folders_of_the_run(night, first, tmp_path: Path):
    name = f"rec-orchard/{version_of(first, 'orchard')}"
    before = lineage("model", name)
    kept = shutil.move(first.record, tmp_path / "record")
    try:
        after = lineage("model", name)
    finally:
        shutil.move(kept, first.record)
    assert after["steps"] == before["steps"]
    assert after["files"] == before["files"]
