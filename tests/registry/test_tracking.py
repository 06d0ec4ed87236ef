"""What a stage's manifest becomes in MLflow, wherever the server keeps its artifacts."""

from __future__ import annotations

import json

import pytest
import yaml

from pipeline.runs import tracking
from pipeline.runs.manifest import EXECUTED

RUN = {"commit": "c" * 40, "as_of": "2026-01-01", "data": "x", "targets": [], "overrides": [], "git_ref": "HEAD"}


@pytest.fixture
def workspace(tmp_path):
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(RUN | {"run_id": tmp_path.name}))
    files = {
        "history.jsonl": '{"step": 1, "loss": 3.5}\n{"step": 2, "loss": 2.5}\n',
        "weights/größe 100%.bin": "w",
    }
    for name, text in files.items():
        path = tmp_path / "models/backbone" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


@pytest.fixture(params=["the server keeps artifacts", "a store of its own"])
def kept_at(request, registry, monkeypatch, tmp_path_factory):
    if request.param == "a store of its own":
        store = tmp_path_factory.mktemp("store").as_uri()
        monkeypatch.setattr(tracking, "EXPERIMENT", request.param)
        if registry.rest.experiment(request.param) is None:
            registry.client.create_experiment(request.param, artifact_location=store)


def test_a_stage_is_in_mlflow_with_its_files(registry, workspace, kept_at, tmp_path):
    manifest = {
        "stage": "pretrain", "run_id": workspace.name, "source": EXECUTED, "message": "it learned",
        "parameters": {"seed": 1, "pretrain": {"epochs": 3}}, "metrics": {"ndcg10": 0.5},
        "cpu_seconds": 7.0, "peak_memory_bytes": None,
        "inputs": {"data/training": {"md5": "0123456789abcdef.dir"}, "pipeline/models": {"md5": "f" * 32}},
        "outputs": {"models/backbone": {"md5": "b" * 32}},
    }  # fmt: skip
    run_id = tracking.track_stage(workspace, manifest)
    assert tracking.track_stage(workspace, manifest) == run_id
    run = registry.client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params == {"seed": "1", "pretrain.epochs": "3"}
    assert run.data.metrics == {"ndcg10": 0.5, "cpu_seconds": 7.0, "loss": 2.5}
    assert [(m.step, m.value) for m in registry.client.get_metric_history(run_id, "loss")] == [(1, 3.5), (2, 2.5)]
    [read] = run.inputs.dataset_inputs
    assert (read.dataset.name, read.dataset.digest) == ("data/training", "0123456789abcdef.dir")
    assert json.loads(read.dataset.source) == {"path": "data/training"}
    assert run.data.tags["mlflow.note.content"] == "it learned"
    found = registry.client.download_artifacts(run_id, "models/backbone", str(tmp_path))
    for file in (path for path in (workspace / "models/backbone").rglob("*") if path.is_file()):
        assert (tmp_path / found / file.relative_to(workspace / "models/backbone")).read_bytes() == file.read_bytes()
