"""Evidence for the gate, and the model card, from the evaluation of trained models."""

from __future__ import annotations

import json
import shutil

import numpy as np
import polars as pl
import pytest

from pipeline.compression.served_model import ServedModel
from pipeline.data.training_set import load_domain
from pipeline.evaluation.evidence import SERVED, measure, read_evidence, test_set_digest, user_groups
from pipeline.evaluation.latency import single_request_p50
from pipeline.exit_codes import DataBrokeContract
from pipeline.registry.model_card import Made, render_card
from pipeline.registry.registration import DESCRIPTION_LIMIT, shortened

test_set_digest.__test__ = False  # a function of the pipeline, not a test


def test_what_evaluate_wrote_is_what_is_measured_again(chain, data):
    written, measured = read_evidence(chain.folder("reports/evaluation")), measure(chain.folder("models/served"), data)
    assert (written.test_set, written.protocol) == (measured.test_set, measured.protocol)
    assert np.array_equal(written.users, measured.users)
    assert np.array_equal(written.models[SERVED], measured.models[SERVED])
    assert "popularity" in written.baselines
    assert {"user warm", "item warm"} <= set(written.slices)
    assert all(len(members) == len(written.users) for members in written.slices.values())


def test_a_test_set_is_its_users_and_their_items_in_whatever_order(chain, data, tmp_path):
    other = chain.copy_to(tmp_path)
    folder = other.root / "training" / "t"
    before = test_set_digest(data)
    users = pl.read_parquet(folder / "users.parquet")
    users.with_columns(pl.col("age") + 1).write_parquet(folder / "users.parquet")
    assert test_set_digest(load_domain(other.root / "training", "t")) == before
    holdout = pl.read_parquet(folder / "holdout.parquet")
    changed = pl.when(pl.col("user_index") == holdout["user_index"][0]).then(1 + pl.col("item_index") % 3)
    holdout.with_columns(item_index=changed.otherwise("item_index").cast(pl.Int32)).write_parquet(
        folder / "holdout.parquet"
    )
    assert test_set_digest(load_domain(other.root / "training", "t")) != before


def test_large_user_groups_are_written_down(data, monkeypatch):
    monkeypatch.setattr("pipeline.evaluation.evidence.GROUP_USERS", 10)
    groups = {one for row in user_groups(data) for one in row}
    assert groups == {"city:0", "city:1", "city:2"}
    monkeypatch.setattr("pipeline.evaluation.evidence.GROUP_USERS", 10_000)
    assert {one for row in user_groups(data) for one in row} == set()


@pytest.mark.parametrize(
    ("key", "words"), [("test_set", "does not say test_set"), ("protocol_words", "protocol_words")]
)
def test_an_evaluation_from_before_the_gate_looked_is_refused(chain, tmp_path, key, words):
    report = tmp_path / "report"
    shutil.copytree(chain.folder("reports/evaluation"), report)
    metrics = json.loads((report / "metrics.json").read_text())
    del metrics[key]
    (report / "metrics.json").write_text(json.dumps(metrics))
    with pytest.raises(DataBrokeContract, match=words):
        read_evidence(report)


def test_the_card_says_what_a_reader_needs(chain, data):
    metrics = json.loads((chain.folder("reports/evaluation") / "metrics.json").read_text())
    p50 = single_request_p50(ServedModel(chain.folder("models/served")), data)
    assert 0 < p50 < 1000
    made = Made("run-1", "2026-01-01T00:00:00Z", "c" * 40, "handmade", "m" * 64, "d.dir", 12345, p50)
    card = render_card("rec-t", metrics, made, 200)
    for words in ("2026-01-01", "c" * 40, "m" * 64, "d.dir", "12,345 bytes", "| popularity |", "user cold", "NDCG@10",
                  "## Limits", "Fewer than 200 test users"):  # fmt: skip
        assert words in card
    long = shortened(card * 10)
    assert len(long) <= DESCRIPTION_LIMIT
    assert long.endswith("files.\n")
