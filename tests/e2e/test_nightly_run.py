"""The run, end to end, on a real Airflow with its real scheduler."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from pipeline.graph import load_graph
from pipeline.runs import manifest_store
from pipeline.runs.manifest import read_every_attempt
from pipeline.runs.reproduce import reproduce_stage
from pipeline.runs.tracking import STAGE_TAG, client
from pipeline.runs.workspace import RunRequest, open_workspace

CHECKOUT = Path(__file__).resolve().parents[2]
TARGETS = ["harbour", "orchard"]
GRAPH = load_graph(CHECKOUT / "dvc.yaml")
CACHEABLE = {a for a in GRAPH.addresses(TARGETS) if not GRAPH.stages[a.partition("@")[0]].always_changed}


def test_the_first_run_ends_green_with_a_champion_for_each_target(first):
    assert first.state == "success", first.states()
    assert set(first.manifests) == set(GRAPH.addresses(TARGETS))
    assert {m["source"] for m in first.manifests.values()} == {"executed"}
    assert {m["mlflow_run_id"] is None for a, m in first.manifests.items() if a in CACHEABLE} == {False}
    mlflow = client()
    for target in TARGETS:
        receipt = json.loads((first.record / "receipts/register" / target / "receipt.json").read_text())
        assert receipt["verdict"] in ("promote", "hold")
        version = mlflow.get_model_version(f"rec-{target}", str(receipt["version"]))
        assert version.tags["warmstart.run_id"] == first.run_id


def test_every_attempt_has_a_manifest_that_is_in_the_store_and_every_parent_of_it_too(first):
    home = first.settings.home
    attempts = read_every_attempt(first.record)
    assert {m["stage"] for m in attempts} == set(GRAPH.addresses(TARGETS))
    for manifest in attempts:
        assert manifest == manifest_store.get(home, manifest["sha256"])
        assert manifest["airflow"]["run_id"] == first.run_id
        assert manifest["airflow"]["task_id"].rpartition(".")[2] == manifest["stage"].partition("@")[0]
        assert manifest["airflow"]["url"].startswith("http")
        for path, parent in manifest["parents"].items():
            assert manifest_store.get(home, parent)["outputs"][path]["md5"] == manifest["inputs"][path]["md5"]
    assert first.manifests["features"]["features"]["entities"]
    assert first.manifests["materialize"]["features"]["service"] == "serving"
    for target in TARGETS:
        assert first.manifests[f"register@{target}"]["model"]["name"] == f"rec-{target}"


def test_the_record_of_a_run_outlives_its_workspace(first):
    assert not first.workspace.exists()
    run = yaml.safe_load((first.record / "run.yaml").read_text())
    assert run["finished"] is True
    assert run["as_of"] == "2026-01-01T00:00:00Z"
    assert (first.record / "reports/validation/index.html").exists()
    for target in TARGETS:
        assert (first.record / "reports/evaluation" / target / "report.html").exists()


def test_metrics_come_with_n_and_an_interval_beside_popularity(first):
    for target in TARGETS:
        metrics = json.loads((first.record / "reports/evaluation" / target / "metrics.json").read_text())
        assert metrics["n"] > 0
        names = {model["name"] for model in metrics["models"]}
        assert {"popularity", "teacher", "student", "served"} <= names
        for model in metrics["models"]:
            for figure in model["masked"].values():
                assert figure["low"] <= figure["value"] <= figure["high"]


def test_mlflow_has_one_parent_and_a_child_for_each_stage(first):
    mlflow = client()
    experiment = mlflow.get_experiment_by_name("warmstart").experiment_id
    runs = mlflow.search_runs([experiment], f"tags.`warmstart.run_id` = '{first.run_id}'", max_results=100)
    children = {run.data.tags[STAGE_TAG]: run for run in runs}
    assert set(children) == {"run", *GRAPH.addresses(TARGETS)}
    assert {run.info.status for run in runs} == {"FINISHED"}
    pretrain = children["pretrain"]
    assert pretrain.data.params["pretrain.epochs"] == "2"
    digests = {i.dataset.name: i.dataset.digest for i in pretrain.inputs.dataset_inputs}
    assert digests["data/training"] == first.output_digests["data/training"]
    assert len(mlflow.get_metric_history(pretrain.info.run_id, "train_loss")) == 2
    files = {f.path for f in mlflow.list_artifacts(pretrain.info.run_id, "models/backbone")}
    assert "models/backbone/model.safetensors" in files
    assert not [path for path in files if path.endswith((".pkl", ".pt", ".pickle", ".joblib"))]


def test_a_second_run_trains_nothing_and_leaves_the_champion(first, second):
    second = second.ended
    assert second.run_id != first.run_id
    assert second.state == "success", second.states()
    cached = {address for address, m in second.manifests.items() if m["source"] == "cached"}
    assert cached == CACHEABLE
    assert {a: m["came_from"] for a, m in second.manifests.items() if a in CACHEABLE} == {
        a: m["sha256"] for a, m in first.manifests.items() if a in CACHEABLE
    }
    assert {k: v for k, v in second.output_digests.items() if not k.startswith("receipts")} == {
        k: v for k, v in first.output_digests.items() if not k.startswith("receipts")
    }
    for target in TARGETS:
        receipt = json.loads((second.record / "receipts/register" / target / "receipt.json").read_text())
        assert receipt["champion"] == receipt["champion_before"]
        assert receipt["verdict"] == "hold"


def test_dvc_repro_in_a_checkout_gives_the_same_hashes(first, tmp_path):
    """By hand, with an empty cache of its own: DVC alone, no Airflow, no workspace."""
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", CHECKOUT, clone], check=True)
    shutil.copy(first.record / "params.yaml", clone / "params.yaml")
    environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(tmp_path)}
    environment |= {"WARMSTART_HOME": str(first.settings.home)}
    stages = [address for address in GRAPH.addresses(["harbour"]) if address in CACHEABLE]
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "repro", "--single-item", *stages],
        cwd=clone, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    lock = yaml.safe_load((clone / "dvc.lock").read_text())["stages"]
    by_hand = {out["path"]: out["md5"] for body in lock.values() for out in body["outs"]}
    assert by_hand == {path: first.output_digests[path] for path in by_hand}
    assert set(by_hand) >= {"models/backbone", "models/served/harbour", "reports/evaluation/harbour"}


def test_two_runs_at_once_do_not_touch_each_other(night, first, tmp_path):
    """Different as_of, the same moment, one new cache: each gets what it gets alone."""

    def run(home: str, run_id: str, as_of: datetime, stages: tuple[str, ...]) -> dict[str, str]:
        request = RunRequest(run_id, as_of=as_of, data="world:tiny", overrides=("embed.encoder=hashing",))
        workspace = open_workspace(night.settings.model_copy(update={"home": tmp_path / home}), request)
        for stage in stages:
            assert reproduce_stage(workspace, stage, tmp_path / home) == 0
        lock = yaml.safe_load((workspace / "dvc.lock").read_text())["stages"]
        return {out["path"]: out["md5"] for body in lock.values() for out in body["outs"]}

    december, new_year = datetime(2025, 12, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)
    stages = ("snapshot", "validate", "features")
    with ThreadPoolExecutor(2) as pool:
        earlier, later = pool.map(run, ("both", "both"), ("a", "b"), (december, new_year), (stages, stages))
    assert earlier["data/snapshot"] != later["data/snapshot"]
    assert later == {path: first.output_digests[path] for path in later}
    alone = run("alone", "a", december, ("snapshot", "validate"))
    assert alone == {path: earlier[path] for path in alone}


def test_a_viewer_cannot_trigger(night):
    from pipeline.exit_codes import BadConfiguration
    from pipeline.follow.airflow_api import AirflowApi
    from pipeline.stack.credentials import airflow_passwords

    viewer = AirflowApi(night.settings.airflow_uri, "viewer", airflow_passwords(night.settings)["viewer"])
    with pytest.raises(BadConfiguration, match=r"[Ff]orbidden"):
        viewer.trigger({})
