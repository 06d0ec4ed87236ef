"""The choice before training: LogME finds the features that know the label, and past runs order what is new."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from pipeline.registry.mlflow_rest import MlflowRest
from pipeline.runs.tracking import STAGE_TAG
from pipeline.transfer.suggestion import Candidate, Past, past_runs, rank_correlation, suggest
from pipeline.transfer.transferability import KNOWN, NOTHING, logme

RNG = np.random.default_rng(3)


def test_logme_is_the_evidence_of_a_linear_model():
    """Against the definition: a Gaussian of y with covariance F·Fᵀ/α + I/β, at the best α and β of a grid."""
    features, noise = RNG.normal(size=(60, 5)), RNG.normal(size=(60, 1))
    labels = features @ RNG.normal(size=(5, 1)) + noise
    centred, standard = features - features.mean(0), (labels - labels.mean(0)) / labels.std(0)
    best = -np.inf
    for alpha in np.geomspace(0.5, 100, 60):
        for beta in np.geomspace(0.5, 20, 60):
            covariance = centred @ centred.T / alpha + np.eye(60) / beta
            _, log_determinant = np.linalg.slogdet(covariance)
            quadratic = (standard.T @ np.linalg.solve(covariance, standard)).item()
            best = max(best, -0.5 * (60 * math.log(2 * math.pi) + log_determinant + quadratic))
    assert logme(features, labels) == pytest.approx(best / 60, abs=2e-3)


def test_logme_likes_features_that_know_the_label_and_not_more_of_any():
    labels = RNG.normal(size=(300, 4))
    knowing = np.hstack([labels @ RNG.normal(size=(4, 4)), RNG.normal(size=(300, 4))])
    blind = RNG.normal(size=(300, 8))
    assert logme(knowing, labels) > logme(blind, labels) + 0.1
    assert logme(RNG.normal(size=(300, 100)), labels) < logme(blind, labels) + 0.02


def test_where_nothing_varies_logme_is_that_of_knowing_nothing():
    features, labels = RNG.normal(size=(40, 8)), RNG.normal(size=(40, 3))
    alike = np.tile(features[:1], (40, 1))
    assert logme(alike, labels) == logme(features, np.ones((40, 3))) == NOTHING
    assert logme(alike + 1e-7 * features, labels) == pytest.approx(NOTHING)  # as where hardly anything does
    assert logme(features, np.hstack([labels, np.ones((40, 1))])) == logme(features, labels)


def past(target: str, size: float) -> list[Past]:
    found = []
    for n in range(6):
        logme_, zero = RNG.normal(), RNG.uniform(0.01, 0.1)
        for arm, worth in (("whole", 0.2), ("head", 0.0)):
            gain = 0.3 * logme_ + worth - 0.1 * math.log10(size) + RNG.normal() * 0.02
            found.append(Past(Candidate(target, f"b{n}", arm, logme_ + 5 * size, zero, size, 900.0), gain))
    return found


def test_what_gained_before_is_expected_to_gain_again():
    rows = past("a", 1e3) + past("b", 1e4)
    asked = [replace(one.candidate, target="c") for one in rows[:12]]
    told = suggest(rows, asked)
    assert told[0].candidate.arm == "whole"
    expected = {(one.candidate.backbone, one.candidate.arm): one.gain for one in told}
    truth = {(row.candidate.backbone, row.candidate.arm): row.gain for row in rows[:12]}
    assert np.corrcoef([expected[key] for key in truth], list(truth.values()))[0, 1] > 0.9
    assert told == sorted(told, key=lambda one: -one.gain)
    assert "LogME" in " ".join(one.why for one in told)


def test_without_enough_runs_logme_alone_orders():
    asked = [Candidate("c", str(n), "whole", value, 0.05, 1e3, 900.0) for n, value in enumerate((-1.4, -1.2, -1.3))]
    told = suggest(past("a", 1e3), asked)
    assert [one.candidate.backbone for one in told] == ["1", "2", "0"]
    assert all(one.gain is None and "alone" in one.why for one in told)


def test_the_order_is_worth_what_it_was_for_targets_left_out():
    rows = past("a", 1e3) + past("b", 1e4) + past("c", 2e4)
    assert rank_correlation(rows) > 0.8
    turned = [replace(one, gain=-one.gain) if one.candidate.target == "c" else one for one in rows]
    assert rank_correlation(turned) < 0.3
    assert rank_correlation(rows[:24]) is None  # of each of two, one is left to learn from


def test_past_runs_are_the_arms_that_were_tried_beside_the_control(monkeypatch):
    def run(name: str, metrics: dict[str, float]) -> dict:
        told = [{"key": key, "value": value} for key, value in metrics.items()]
        return {
            "info": {"run_id": name},
            "data": {"metrics": told, "tags": [{"key": STAGE_TAG, "value": "transfer@t"}]},
        }

    known = dict(zip(KNOWN, (-1.2, 0.03, 500.0, 900.0), strict=True))
    arms = {"valid_ndcg10.scratch": 0.1, "valid_ndcg10.whole": 0.2, "valid_ndcg10.head": 0.05, "valid_ndcg10": 0.2}
    runs = [run("one", known | arms), run("older", arms), run("alone", known | {"valid_ndcg10.whole": 0.2})]
    monkeypatch.setattr(MlflowRest, "experiment", lambda self, name: "7")
    monkeypatch.setattr(MlflowRest, "runs", lambda self, experiment, query: runs)
    found = past_runs(MlflowRest("http://nowhere"))
    assert {(one.candidate.arm, round(one.gain, 3)) for one in found} == {("whole", 0.693), ("head", -0.693)}
    assert {one.candidate.target for one in found} == {"t"}
    assert found[0].candidate.interactions == 500
