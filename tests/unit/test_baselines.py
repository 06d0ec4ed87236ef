"""What every ranker must keep to, the baselines here; the models keep to it in tests/model."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from pipeline.data.sequences import Sequences
from pipeline.data.training_set import load_domain
from pipeline.evaluation import baselines
from pipeline.evaluation.baselines import (
    ContentNeighbours,
    Ease,
    ItemNeighbours,
    Popularity,
    best_on_validation,
    fit_baselines,
)
from pipeline.evaluation.factorisations import Als, Bpr
from pipeline.evaluation.ranking import Requests
from pipeline.models.unit_rows import unit_rows
from pipeline.stages.evaluate import Params
from tests.ranker_contract import RankerContract
from tests.training_data import rewrite_without_training, write_training_set

EVERY = Params.model_fields["baselines"].default


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    return write_training_set(tmp_path_factory.mktemp("world"), {"t": ["target"]})


@pytest.fixture(scope="module")
def data(world):
    return load_domain(world / "training", "t")


@pytest.fixture(scope="module")
def text(world):
    return np.load(world / "vectors" / "t" / "text.npy")


@pytest.fixture(scope="module")
def fitted(data, text):
    return fit_baselines(data, text, "real", EVERY, seed=7)


@pytest.mark.parametrize("name", ["popularity", *EVERY])
class TestBaselines(RankerContract):
    @pytest.fixture
    def scorer(self, name, fitted):
        return fitted[name]


def request(*history: int) -> Requests:
    return Requests(np.zeros(1, dtype=np.int32), [np.array(history, dtype=np.int32)], np.zeros(1, dtype=np.int64))


def test_popularity_counts(data):
    scores = Popularity.all_time(data).scores(request())[0]
    assert scores.sum() == len(data.items)
    assert scores[5] == (np.asarray(data.items) == 5).sum()


def test_recent_popularity_halves_with_age(data):
    scores = Popularity.recent(data, half_life=1e9).scores(request())[0]
    assert scores == pytest.approx(Popularity.all_time(data).scores(request())[0])
    last = Popularity.recent(data, half_life=1e-6).scores(request())[0]
    assert last.argmax() == data.items[np.argmax(data.times)]


def test_item_neighbours_against_plain_cosine(data):
    found = ItemNeighbours.fit(data, decay=0.5, shrink=0.0).scores(request(3, 7))[0]
    seen = np.zeros((data.n_users, data.n_items + 1))
    for user in range(data.n_users):
        seen[user, data.items[data.offsets[user] : data.offsets[user + 1]]] = 1
    for item in range(1, data.n_items + 1):
        expected = 0.0
        for weight, other in ((0.5, 3), (1.0, 7)):
            norm = np.sqrt(seen[:, item].sum() * seen[:, other].sum())
            if other != item and norm:
                expected += weight * (seen[:, item] @ seen[:, other]) / norm
        assert found[item] == pytest.approx(expected)


def test_ease_is_the_ridge_regression_of_each_item_on_the_others(data):
    seen = np.zeros((data.n_users, data.n_items + 1))
    for user in range(data.n_users):
        seen[user, data.items[data.offsets[user] : data.offsets[user + 1]]] = 1.0
    item, ridge = 3, 10.0
    others = np.delete(np.arange(data.n_items + 1), item)
    x = seen[:, others]
    solved = np.linalg.solve(x.T @ x + ridge * np.eye(len(others)), x.T @ seen[:, item])
    weights = Ease.fit(data, ridge).weights
    assert np.allclose(weights[others, item], solved, atol=1e-4)
    assert weights[item, item] == 0


def test_content_neighbours_prefer_the_same_topic(text):
    scores = ContentNeighbours(unit_rows(text), decay=0.8).scores(request(4, 8))[0]
    topic = np.arange(len(text)) % 4
    assert set(topic[np.argsort(-scores)[:4]]) == {topic[4]}


def test_als_is_the_least_squares_of_a_history(data):
    model = Als.fit(data, alpha=10.0, seed=7).model
    items, taken = np.asarray(model.item_factors, dtype=np.float64), np.zeros(data.n_items + 1)
    taken[[3, 7]] = 1.0
    weights = np.diag(1.0 + 9.0 * taken)  # implicit: alpha for a taken item, 1 for all others
    ridge = model.regularization * np.eye(items.shape[1])
    user = np.linalg.solve(items.T @ weights @ items + ridge, 10.0 * items.T @ taken)
    assert np.allclose(Als(model).scores(request(3, 3, 7))[0], items @ user, atol=1e-4)


def test_bpr_knows_whom_it_met_and_ranks_by_bias_for_others(data):
    met, stranger, cold = int(np.argmax(np.diff(data.offsets))), 0, 5
    users = np.repeat(np.arange(data.n_users), np.diff(data.offsets))
    keep = (users != stranger) & (data.items != cold)
    offsets = np.concatenate([[0], np.cumsum(np.bincount(users[keep], minlength=data.n_users))])
    rest = [column[keep] for column in (data.items, data.times, data.events, data.values)]
    found = Bpr.fit(replace(data, sequences=Sequences(offsets, *rest)), rate=0.2, seed=7)
    scores = found.scores(Requests(np.array([met, stranger]), [np.zeros(0, np.int32)] * 2, np.zeros(2)))
    taken = np.unique(rest[0][offsets[met] : offsets[met + 1]])
    others = np.setdiff1d(rest[0], taken)
    assert scores[0, taken].mean() > scores[0, others].mean() + 1.0
    assert scores[1].tolist() == found.items[:, -1].tolist()
    assert (scores[1, cold] <= scores[1, 1:]).all()


def test_bpr_that_diverges_is_fitted_more_slowly(data):
    assert np.isfinite(Bpr.fit(data, rate=50.0, seed=7).items).all()


@pytest.mark.parametrize("fit", [Als.fit, Bpr.fit])
def test_the_same_seed_gives_the_same_factors_and_another_seed_others(data, fit):
    first, again, other = (fit(data, 0.1, seed).scores(request(3, 7)) for seed in (7, 7, 8))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


class Second:
    """Puts what is wanted second: behind item 1, or behind all that was seen, which masking forgives."""

    def __init__(self, validation, n_items, behind_seen):
        self.wanted, self.n_items, self.behind_seen = validation.item_index, n_items, behind_seen

    def scores(self, requests):
        scores = np.zeros((len(requests), self.n_items + 1))
        for row, history in enumerate(requests.histories):
            scores[row, self.wanted[requests.held[1][row]]] = 1.0
            scores[row, history if self.behind_seen else 1] = 2.0
        return scores


def test_a_setting_is_chosen_by_masked_validation_ndcg_and_of_equal_ones_the_first(data):
    validation = data.holdout("validation")
    built = {name: Second(validation, data.n_items, name != "behind one") for name in ("behind one", "first", "equal")}
    candidates = [(name, partial(built.get, name)) for name in built]
    assert best_on_validation(candidates, validation, data.n_items) == ("first", built["first"])


def test_every_baseline_has_settings_to_choose_from(data, text, monkeypatch):
    asked = []

    def choose(candidates, validation, n_items):
        assert validation.split == "validation"
        asked.append(len(candidates))
        return candidates[0][0], None

    monkeypatch.setattr(baselines, "best_on_validation", choose)
    assert set(fit_baselines(data, text, "real", EVERY, 7)) == {"popularity", *EVERY}
    assert min(asked) >= 3 and len(asked) == len(EVERY)


def test_only_what_is_wanted_is_fitted_and_popularity_always(data, text):
    assert list(fit_baselines(data, text, "real", ["EASE"], 7)) == ["popularity", "EASE"]


def test_an_order_without_a_clock_has_no_recent_popularity(data, text):
    assert "recent popularity" not in fit_baselines(data, text, "order", EVERY, 7)


def test_without_text_there_is_no_content_ranking(data, text):
    assert "content-kNN" not in fit_baselines(data, None, "real", EVERY, 7)
    assert "content-kNN" not in fit_baselines(data, np.zeros_like(text), "real", EVERY, 7)


def test_a_target_without_interactions_has_baselines_that_say_nothing(tmp_path):
    root = write_training_set(tmp_path, {"t": ["target"]}, users=12, items=8)
    rewrite_without_training(root / "training", "t")
    empty = load_domain(root / "training", "t")
    for name, scorer in fit_baselines(empty, np.ones((9, 4), dtype=np.float32), "real", EVERY, 7).items():
        scores = scorer.scores(request(1))
        assert scores.shape == (1, 9), name
        assert np.isfinite(scores).all(), name


def test_without_openmp_the_factorisations_are_left_out_and_said_to_be(data, text, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "pipeline.evaluation.factorisations", None)
    found = fit_baselines(data, text, "real", ["ALS", "BPR", "item-kNN"], seed=7)
    assert set(found) == {"popularity", "item-kNN"}
    assert "ALS and BPR are left out" in caplog.text
    assert "libgomp1" in caplog.text
