"""The sweep: every point is measured once, the frontier is right, and what cannot be made is told."""

from __future__ import annotations

import pytest
import yaml
from typer.testing import CliRunner

from pipeline.exit_codes import BadConfiguration, DataBrokeContract
from pipeline.graph import load_graph
from pipeline.runs.parameters import apply_overrides, read_params
from pipeline.settings import CHECKOUT, Settings
from pipeline.sweep import points
from pipeline.sweep import sweep as module
from pipeline.sweep.commands import app
from pipeline.sweep.frontier import frontier
from pipeline.sweep.points import Source
from pipeline.sweep.report import render_report
from pipeline.sweep.sweep import kept_in, sweep
from tests.training_data import rewrite_without_training

SHORT = ["distill.epochs=2", "distill.width=16", "distill.id_width=4", "distill.attribute_buckets=128"]
SHORT += ["distill.profile_buckets=16", "prune.recovery_epochs=1"]


def source_of(chain) -> Source:
    inputs = {"data/training": chain.root / "training", "data/item_vectors": chain.root / "vectors"}
    inputs["models/teacher"] = chain.folder("models/teacher")
    params = apply_overrides(read_params(CHECKOUT / "params.yaml"), SHORT)
    return Source("t", inputs, params, load_graph(CHECKOUT / "dvc.yaml"))


def test_the_frontier_has_what_nothing_beats():
    rows = [{"bytes": b, "ndcg10": n} for b, n in ((10, 0.1), (20, 0.1), (20, 0.3), (30, 0.2), (40, 0.4))]
    assert frontier(rows, "bytes", "ndcg10") == [0, 2, 4]


def test_a_sweep_is_measured_once_and_told(chain, tmp_path, monkeypatch):
    source = source_of(chain)
    kept = kept_in(tmp_path, source)
    students, exports = ["as configured", "codes alone"], ["dense", "pruned, codes"]
    found = sweep(source, kept, students, exports)
    assert [(row["student"], row["export"]) for row in found["points"]] == [
        ("as configured", "torch"), ("as configured", "dense"),  # its items are no codes
        *(("codes alone", export) for export in ("torch", *exports)),
    ]  # fmt: skip
    assert found["refused"] == []
    for row in found["points"]:
        assert row["bytes"] > 0
        assert row["p50_ms"] > 0
        assert row["retention"]["low"] <= row["retention"]["value"] <= row["retention"]["high"]
        assert row["untaught"] is not None  # nothing is said to be kept without the control arms beside it
        assert row["teacher_sized"] is not None
    assert found["by_bytes"]
    page = render_report(found)
    assert "<script" not in page
    assert page.count("<circle") == 6
    monkeypatch.setattr(points, "importlib", None)  # no stage can be run any more
    again = sweep(source, kept, students, exports)
    assert [row["ndcg10"] for row in again["points"]] == [row["ndcg10"] for row in found["points"]]


def test_a_point_that_cannot_be_made_is_told(chain, tmp_path, monkeypatch):
    monkeypatch.setitem(module.EXPORTS, "nothing", ["prune.keep_heads=0.1"])
    monkeypatch.setitem(module.STUDENTS, "huge", ["distill.width=256"])
    found = sweep(source_of(chain), tmp_path, ["huge", "as configured"], ["dense", "nothing"])
    assert [(row["student"], row["export"]) for row in found["refused"]] == [
        ("huge", "torch"), ("as configured", "nothing"),
    ]  # fmt: skip
    page = render_report(found)
    assert "leaves none" in page
    assert "its teacher has" in page


def test_bad_sweeps(chain, tmp_path):
    with pytest.raises(BadConfiguration, match="there is no student 'unheard' in the sweep"):
        sweep(source_of(chain), tmp_path, ["unheard"], [])
    empty = chain.copy_to(tmp_path / "empty")
    rewrite_without_training(empty.root / "training", "t")
    with pytest.raises(DataBrokeContract, match="t has no training interactions"):
        sweep(source_of(empty), tmp_path, [], [])


@pytest.fixture
def folder(chain, tmp_path, monkeypatch):
    """A folder as `dvc repro transfer@t` leaves it."""
    root = tmp_path / "here"
    (root / "data").mkdir(parents=True)
    (root / "models" / "teacher").mkdir(parents=True)
    (root / "data" / "training").symlink_to(chain.root / "training")
    (root / "data" / "item_vectors").symlink_to(chain.root / "vectors")
    (root / "models" / "teacher" / "t").symlink_to(chain.folder("models/teacher"))
    (root / "dvc.yaml").symlink_to(CHECKOUT / "dvc.yaml")
    params = apply_overrides(read_params(CHECKOUT / "params.yaml"), SHORT)
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    chosen = Settings(home=tmp_path / "home", mlflow_tracking_uri="http://127.0.0.1:9")  # nobody listens there
    for reader in ("pipeline.settings.settings", "pipeline.sweep.tracking.settings"):
        monkeypatch.setattr(reader, lambda: chosen)
    return root


def test_the_command_writes_the_page_with_mlflow_away_too(folder):
    words = ["sweep", "--target", "t", "--folder", str(folder)]
    words += ["--student", "as configured", "--export", "dense"]
    found = CliRunner().invoke(app, words, catch_exceptions=False)
    assert "on the frontier by bytes: as configured: dense" in found.output
    assert "not in MLflow: " in found.output
    assert (folder / "reports" / "compression" / "t" / "report.html").exists()


def test_the_command_says_what_is_missing(tmp_path):
    with pytest.raises(BadConfiguration, match=r"training is not there; run `dvc repro transfer@t`"):
        CliRunner().invoke(app, ["sweep", "--target", "t", "--folder", str(tmp_path)], catch_exceptions=False)
