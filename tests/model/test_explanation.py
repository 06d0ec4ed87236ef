"""Which past items carried a recommendation, where the truth is known (`pipeline/data/world/truth.py`).

In the world the next item's topic comes from the user's taste, of which past items of that topic are the evidence, and
from the topic of the last item. So an item is carried by past items of its own topic, or by the last one.
"""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.compression.explanation import carriers
from pipeline.compression.served_model import ServedModel
from pipeline.data.training_set import load_domain

FOLLOWS = 0.1  # of transition: one of the three topics that usually follow a topic, or by chance (0.04 / topics)


@pytest.fixture(scope="module")
def metro(known, market):
    """A served model of the market `metro`, and its data."""
    return ServedModel(market.folder("models/served")), load_domain(known.root / "training", "metro")


def asked(data, least: int = 6):
    """(history, attributes) of test users with some history."""
    test = data.holdout("test")
    for row in range(len(test)):
        history = test.history(row)[0].tolist()
        if least <= len(history) <= 40:
            yield history, data.user_attributes[int(test.user_index[row])]


NO_FEATURES = np.zeros(0, dtype=np.float32)


def test_what_truly_carries_an_item_is_named_first(known, metro):
    model, data = metro
    topic, right, chance, alike = known.topic, [], [], []
    for history, attributes in asked(data):
        items, _ = model.recommend([history], NO_FEATURES[None], [attributes], [history], 5)
        for item, found in zip(
            items[0].tolist(), model.explain_all(history, NO_FEATURES, attributes, items[0]), strict=True
        ):
            follows = known.transition[topic[history[-1]], topic[item]] > FOLLOWS
            truly = {row for row in history if topic[row] == topic[item]} | ({history[-1]} if follows else set())
            if not 0 < len(truly) < len(set(history)):
                continue  # nothing or everything would be right
            right.append(found[0].row in truly)
            chance.append(len(truly) / len(set(history)))
            same = [carrier.similarity for carrier in found if topic[carrier.row] == topic[item]]
            other = [carrier.similarity for carrier in found if topic[carrier.row] != topic[item]]
            if same and other:
                alike.append(np.mean(np.array(same)[:, None] > np.array(other)))
    assert len(right) > 100
    # 0.62 against 0.11 by chance with this little training; 0.88 against 0.15 in a world of the size `small`
    assert np.mean(right) > 3 * np.mean(chance)
    assert np.mean(alike) > 0.8  # AUC of the cosine: same topic against another


def test_the_share_is_the_fall_of_the_score(metro):
    model, data = metro
    history, attributes = next(asked(data))
    item = int(model.recommend([history], NO_FEATURES[None], [attributes], [history], 1)[0][0, 0])
    found = {carrier.row: carrier for carrier in model.explain(history, NO_FEATURES, attributes, item)}
    assert set(found) == set(history)
    whole = model.scores([history], NO_FEATURES[None], [attributes])[0, item]
    vectors = model.catalogue.vectors
    for row, carrier in found.items():
        left = [other for other in history if other != row]
        falls = whole - model.scores([left], NO_FEATURES[None], [attributes])[0, item]
        assert carrier.share == pytest.approx(falls, abs=1e-4)
        cosine = vectors[row] @ vectors[item] / np.linalg.norm(vectors[row]) / np.linalg.norm(vectors[item])
        assert carrier.similarity == pytest.approx(cosine, abs=1e-5)
    shares = [carrier.share for carrier in model.explain(history, NO_FEATURES, attributes, item)]
    assert shares == sorted(shares, reverse=True)


def test_histories_that_are_unusual(metro):
    model, data = metro
    assert model.explain_all([], NO_FEATURES, [], [3, 4]) == [[], []]
    assert model.explain_all([5, 6], NO_FEATURES, [], []) == []
    (alone,) = model.explain([5], NO_FEATURES, [], 3)
    without = model.scores([[5], []], np.zeros((2, 0)), [[], []])[:, 3]
    assert alone.share == pytest.approx(without[0] - without[1], abs=1e-4)
    # what a model no longer reads cannot have carried anything
    long = [1 + place % data.n_items for place in range(model.max_length + 10)]
    assert {carrier.row for carrier in model.explain(long, NO_FEATURES, [], 3)} == set(long[10:])
    # an item that was chosen twice is one past item
    twice = model.explain([5, 6, 5], NO_FEATURES, [], 3)
    assert sorted(carrier.row for carrier in twice) == [5, 6]


def test_an_item_listed_since_is_explained_and_explains(metro):
    model, _ = metro
    text = np.random.default_rng(0).normal(size=(1, 64)).astype(np.float32)
    vectors = model.encode_items(text, [["brand:1"]], np.zeros((1, 0), np.float32))
    grown = model.with_items(["new"], vectors, [["brand:1"]])
    new = grown.item_index["new"]
    assert [carrier.row for carrier in grown.explain([new], NO_FEATURES, [], 7)] == [new]
    assert {carrier.row for carrier in grown.explain([5, 7], NO_FEATURES, [], new)} == {5, 7}


def test_all_occlusions_are_one_small_batch():
    """However large the catalogue: only the rows that matter are scored."""
    vectors = np.eye(1000, 4, dtype=np.float32)
    calls = []

    def score(histories, few):
        calls.append((len(histories), len(few)))
        return np.zeros((len(histories), len(few)), dtype=np.float32)

    found = carriers(score, vectors, [7, 999, 7], [3, 500])
    assert calls == [(3, 5)]  # whole, without 7, without 999; padding, 3, 7, 500, 999
    assert [[carrier.similarity for carrier in one] for one in found] == [[0.0, 0.0], [0.0, 0.0]]
