"""Where the known truth is out of reach: ideal observers of the synthetic world, who know less of it one after another.

All of them know the topics of items, where users go after each, the trend, and how tastes are spread; none knows a
user's taste, which they infer exactly, by importance sampling, from the history in the market and the attributes.

* `observer`: no more than that is hidden;
* `observer, no clock`: nor is the day known: the mean trend, and everything is there;
* `observer, counts`: nor is the popularity of an item within its topic: it is counted in training, plus a half.

The first loses to the known truth what tastes are worth, the last what a model that reads the same cannot do without.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.augmentation.parts import Part
from pipeline.data.sequences import Array
from pipeline.data.training_set import DomainData
from pipeline.data.world.generate import MarketTables, World
from pipeline.data.world.params import EPOCHS
from pipeline.data.world.simulate import epoch_of
from pipeline.data.world.truth import SEQUENCE, TASTE, TREND, Floats, item_scores, lexicon
from pipeline.evaluation.metrics import ndcg

OBSERVERS = ("observer", "observer, no clock", "observer, counts")
DRAWS = 4000  # tastes that a user may have


def observed(world: World, market: str, data: DomainData, parts: Sequence[Part]) -> dict[str, dict[str, Array]]:
    """NDCG@10 of the rows of every part, seen items masked, float64 [n], by observer and part.

    Args:
        world: as it was generated.
        data: of the market, leave-one-out; what it has in training is what is counted.
        parts: of its test rows; of each history no more is seen than they have.
    """
    watch = _Watch(world, world.markets[market], data)
    found: dict[str, dict[str, Array]] = {name: {} for name in OBSERVERS}
    for part in parts:
        lengths = part.holdout.history_lengths.tolist()
        ranks = np.array([watch.ranks(row, last) for row, last in zip(part.rows.tolist(), lengths, strict=True)])
        for name, column in zip(OBSERVERS, ndcg(ranks, 10).T, strict=True):
            found[name][part.name] = column
    return found


@dataclass
class _Watch:
    world: World
    market: MarketTables
    data: DomainData

    def __post_init__(self) -> None:
        own = {item: place for place, item in enumerate(self.market.items["item_id"].to_list())}
        self.place = np.array([0, *(own[item] for item in self.data.item_ids[1:])])  # in the market's own order
        self.test = self.data.holdout("test")
        self.users = {user: place for place, user in enumerate(self.market.users["user_id"].to_list())}
        self.attributes = self.market.users["attributes"].to_list()
        self.starts = np.searchsorted(self.market.visits.user, np.arange(len(self.users) + 1))
        self.segments = [f"segment:{name}" for name in lexicon().segments]
        self.tastes: dict[int, Floats] = {}
        catalogue = self.market.catalogue
        counts = np.bincount(self.place[np.asarray(self.data.items)], minlength=len(catalogue.topic)) + 0.5
        self.shares = counts / np.add.reduceat(counts, catalogue.topic_start[:-1])[catalogue.topic]

    def ranks(self, row: int, last: int) -> list[int]:
        """Of the held-out item of a test row, by observer, who sees so many of the interactions before it."""
        shared, catalogue, visits = self.world.shared, self.market.catalogue, self.market.visits
        user = self.users[self.data.user_ids[self.test.user_index[row]]]
        span = slice(self.starts[user], self.starts[user + 1])
        items, epochs = visits.item[span][-1 - last :], epoch_of(visits.moment[span][-1 - last :])
        topics = catalogue.topic[items]
        tastes = self._prior(user)  # (M, K)
        # what a user does next is the taste's, the last topic's or the trend's; the first has no last topic
        after = [tastes, *(shared.transition[topic] for topic in topics[:-1])]
        weight = np.zeros(len(tastes))
        for place, topic in enumerate(topics[:-1]):
            mine, follows = tastes[:, topic], after[place][..., topic]
            weight += np.log(TASTE * mine + SEQUENCE * follows + TREND * shared.trend[epochs[place], topic])
        weight = np.exp(weight - weight.max())
        taste = weight @ tastes / weight.sum()  # (K,), the posterior's mean: scores are linear in it
        known = TASTE * taste + SEQUENCE * (after[-1] if len(topics) > 1 else taste)
        day, usual = known + TREND * shared.trend[epochs[-1]], known + TREND * shared.trend.mean(0)
        said = (
            item_scores(catalogue, day, int(epochs[-1])),
            item_scores(catalogue, usual, EPOCHS - 1),
            usual[catalogue.topic] * self.shares,
        )
        return [_rank(scores, items) for scores in said]

    def _prior(self, user: int) -> Floats:
        """Tastes of the user's segment, where it is told, else of all; float [M, K]."""
        told = [self.segments.index(word) for word in self.attributes[user] if word in self.segments]
        key = told[0] if told else -1
        if key not in self.tastes:
            centres = self.world.shared.segment_centre
            chosen = centres[[key]] if told else centres
            draws = np.random.default_rng(key + 1)
            gamma = draws.gamma(np.repeat(5.0 * chosen + 0.02, DRAWS // len(chosen), axis=0)) + 1e-9
            self.tastes[key] = 0.97 * gamma / gamma.sum(1, keepdims=True) + 0.03 / chosen.shape[1]
        return self.tastes[key]


def _rank(scores: Floats, items: Array) -> int:
    """Of the last of a user's items among those that came not before; ties against it."""
    left = scores.copy()
    left[items[:-1]] = -1.0
    return int((left >= left[items[-1]]).sum())
