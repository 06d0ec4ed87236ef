"""The exported model: torch's answers without torch, and fair to a champion of another catalogue."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import onnx
import polars as pl
import pytest

from pipeline.compression.served_model import ServedModel
from pipeline.data.training_set import load_domain
from pipeline.evaluation.rank_served import ServedScorer, per_user_metrics
from pipeline.evaluation.ranking import rank_holdout, requests_of
from pipeline.exit_codes import BadConfiguration
from pipeline.settings import CHECKOUT
from pipeline.training.scoring import ModelScorer
from pipeline.training.weights import load_model


@pytest.fixture
def served(chain):
    return ServedModel(chain.folder("models/served"))


def test_onnx_ranks_as_torch_for_every_test_user(chain, data, opened, served):
    model = load_model(chain.folder("models/served"))
    requests = requests_of(data.holdout("test"), np.arange(len(data.holdout("test"))))
    torch_scores = ModelScorer(model, opened(model)).scores(requests)
    onnx_scores = ServedScorer(served, data).scores(requests)
    np.testing.assert_allclose(onnx_scores[:, 1:], torch_scores[:, 1:], rtol=1e-4, atol=1e-5)
    attributes = [data.user_attributes[user] for user in requests.users]
    items, scores = served.recommend(
        requests.histories, data.profile_features[requests.users], attributes, requests.histories, k=10
    )
    for row, history in enumerate(requests.histories):
        torch_scores[row, [0, *history]] = -np.inf
        best = np.argsort(-torch_scores[row], kind="stable")[:10]
        left = np.isfinite(torch_scores[row, best])
        assert items[row][left].tolist() == best[left].tolist()
        np.testing.assert_allclose(scores[row][left], torch_scores[row, best][left], rtol=1e-4, atol=1e-5)


def test_a_seen_item_is_never_recommended(served, data):
    everything = list(range(1, data.n_items + 1))
    asked = [[3], [], [2]]
    seen = [everything[:-2], [], everything]
    items, scores = served.recommend(asked, data.profile_features[:3], [[], ["city:1"], []], seen, k=5)
    assert set(items[0].tolist()) == {data.n_items - 1, data.n_items, 0}
    assert items[0][2:].tolist() == [0, 0, 0]
    assert (items[1] > 0).all()
    assert (items[2] == 0).all()
    assert np.isneginf(scores[2]).all()


def test_best_come_first(served, data):
    _, scores = served.recommend([[1, 2]], data.profile_features[:1], [[]], [[]], k=20)
    assert (np.diff(scores[0]) <= 0).all()


def test_too_many_are_refused(served, data):
    with pytest.raises(ValueError, match="top_k = 20"):
        served.recommend([[]], data.profile_features[:1], [[]], [[]], k=21)


def test_the_graph_is_what_the_contract_says(chain):
    graph = onnx.load(chain.folder("models/served") / "model.onnx").graph
    defaults = {one.name for one in graph.initializer}
    asked = [one.name for one in graph.input]
    assert [name for name in asked if name not in defaults] == ["history", "profile", "profile_attributes", "seen"]
    assert [name for name in asked if name in defaults] == ["vectors", "blocked"]
    assert [one.name for one in graph.output][:2] == ["items", "scores"]
    assert not any(node.doc_string for node in graph.node)  # no paths of the machine that exported it


def test_serving_imports_no_torch(chain):
    code = (
        "import sys, numpy; from pathlib import Path\n"
        "from pipeline.compression.served_model import ServedModel\n"
        "import pipeline.evaluation.rank_served\n"
        f"model = ServedModel(Path({str(chain.folder('models/served'))!r}))\n"
        "profile = numpy.zeros((1, len(model.profile_features)))\n"
        "assert model.recommend([[1]], profile, [['city:1']], [[1]], 5)[0].shape == (1, 5)\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=CHECKOUT)


def test_a_folder_that_is_no_model_is_refused(tmp_path):
    with pytest.raises(BadConfiguration, match="does not hold a served model"):
        ServedModel(tmp_path)


def test_metrics_of_the_current_model(chain, data, served):
    table = per_user_metrics(chain.folder("models/served"), data)
    evaluated = pl.read_parquet(chain.folder("reports/evaluation") / "per_user.parquet")
    assert table["user_index"].to_list() == evaluated["user_index"].to_list()
    assert table["ndcg10"].to_list() == evaluated["served"].to_list()
    assert table["item_index"].to_list() == evaluated["item_index"].to_list()
    assert len(per_user_metrics(chain.folder("models/served"), data, "validation")) == len(data.holdout("validation"))


def test_a_champion_is_aligned_by_item_id(chain, data, tmp_path):
    """The same items in another order, one gone and one new: what is known is ranked as before, what is new is last."""
    today = chain.copy_to(tmp_path)
    folder = today.root / "training" / "t"
    order = np.random.default_rng(0).permutation(data.n_items)  # today's row r was item order[r] + 1
    items = pl.read_parquet(folder / "items.parquet")[order]
    gone_index = int(items["item_id"].to_list().index("t-5"))
    items = items.with_columns(
        pl.when(pl.col("item_id") == "t-5").then(pl.lit("brand-new")).otherwise("item_id").alias("item_id")
    )
    items.write_parquet(folder / "items.parquet")
    place = np.zeros(data.n_items + 1, dtype=np.int32)
    place[order + 1] = np.arange(1, data.n_items + 1)
    holdout = pl.read_parquet(folder / "holdout.parquet").with_columns(
        item_index=pl.col("item_index").map_elements(lambda i: int(place[i]), pl.Int32),
        history=pl.col("history").map_elements(lambda h: place[list(h)].tolist(), pl.List(pl.Int32)),
    )
    holdout.write_parquet(folder / "holdout.parquet")
    moved = load_domain(today.root / "training", "t")
    old = ServedScorer(ServedModel(chain.folder("models/served")), data)
    new = ServedScorer(ServedModel(chain.folder("models/served")), moved)
    assert (old.n_unknown, new.n_unknown) == (0, 1)
    before = rank_holdout(old, data.holdout("test"), data.n_items)
    after = rank_holdout(new, moved.holdout("test"), moved.n_items)
    for row in range(len(moved.holdout("test"))):
        item, history = moved.holdout("test").item_index[row], moved.holdout("test").history(row)[0]
        if item == gone_index + 1:
            assert after.unmasked[row] == moved.n_items
        elif gone_index + 1 not in history:  # the item that is unknown now may have stood above: one place better
            assert after.unmasked[row] in (before.unmasked[row], before.unmasked[row] - 1)


def test_a_feature_that_is_gone_reads_zero(chain, data, caplog, tmp_path):
    older = chain.copy_to(tmp_path).folder("models/served")
    about = json.loads((older / "model.json").read_text())
    about["spec"]["profile_features"] = ["age", "once_known"]
    (older / "model.json").write_text(json.dumps(about))
    assert len(per_user_metrics(older, data)) == len(data.holdout("test"))
    assert "once_known are no longer computed" in caplog.text
