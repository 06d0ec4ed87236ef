"""One market as it truly is while it is simulated: who is there, what is listed, who had what, and who wants what.

The world's formula (`pipeline/data/world/truth.py`) is continued after its year: the trend stays that of the last
epoch, an item is available from the day it is listed on.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.data.world.generate import World
from pipeline.data.world.params import EPOCHS
from pipeline.data.world.truth import Floats, Ints, topic_mix
from pipeline.simulation.arrivals import Newcomers


class Market:
    """The truth of one target domain. U users, N items, both grow; indices never change.

    Attributes:
        user_ids: [U]; joined_on: [U] number of the day a user joined on; 0 for the world's own.
        attributes: [U], only of those who joined in the simulation; the dataset has the others'.
        item_ids: [N]; item_index: their indices; listed_on: [N] as joined_on.
        seen: [U] items each user has had in this market, chronological.
        counts: [N] interactions of the history that a popularity would count.
    """

    def __init__(self, world: World, name: str) -> None:
        tables = world.markets[name]
        visits, catalogue = tables.visits, tables.catalogue
        self.name, self._shared = name, world.shared
        self.user_ids: list[str] = tables.users["user_id"].to_list()
        self.attributes: list[list[str]] = [[] for _ in self.user_ids]
        self.joined_on = [0] * len(self.user_ids)
        self.item_ids: list[str] = tables.items["item_id"].to_list()
        self.item_index = {item: index for index, item in enumerate(self.item_ids)}
        self.listed_on = np.zeros(len(self.item_ids), np.int64)
        self._taste: Floats = world.people.taste[tables.members]
        self._topic, self._weight = catalogue.topic, catalogue.weight
        self.seen: list[list[int]] = [[] for _ in self.user_ids]
        for user, item in zip(visits.user.tolist(), visits.item.tolist(), strict=True):
            self.seen[user].append(item)
        self.counts = np.bincount(visits.item, minlength=len(self.item_ids)).astype(np.int64)

    def join(self, new: Newcomers, day: int) -> None:
        """Let the newcomers of a day in."""
        self.user_ids += new.users["user_id"].to_list()
        self.joined_on += [day] * len(new.users)
        self.attributes += new.users["attributes"].to_list()
        self.seen += [[] for _ in range(len(new.users))]
        self._taste = np.concatenate([self._taste, new.taste])
        self.item_index |= {item: len(self.item_ids) + n for n, item in enumerate(new.items["item_id"])}
        self.item_ids += new.items["item_id"].to_list()
        self.listed_on = np.concatenate([self.listed_on, np.full(len(new.items), day)])
        self._topic = np.concatenate([self._topic, new.topic])
        self._weight = np.concatenate([self._weight, new.weight])
        self.counts = np.concatenate([self.counts, np.zeros(len(new.items), np.int64)])

    def wants(self, user: int) -> Floats:
        """[N] probability that an item is the user's next, sums to 1; 0 for what they had."""
        had = self.seen[user]
        last: Ints = np.array([self._topic[had[-1]] if had else -1])
        mix = topic_mix(self._shared, self._taste[user][None], last, np.array([EPOCHS - 1]))[0]
        total = np.bincount(self._topic, weights=self._weight, minlength=len(mix))
        chance: Floats = (mix / total)[self._topic] * self._weight
        chance[had] = 0.0
        return chance / chance.sum()

    def popular(self, user: int, k: int) -> Ints:
        """[k] the most popular items by the history up to the last midnight that the user has not had."""
        counts = self.counts.copy()
        counts[self.seen[user]] = -1
        order: NDArray[np.int64] = np.argsort(-counts, kind="stable")[:k]
        return order[counts[order] >= 0]

    def midnight(self, taken: int | None) -> None:
        """What was taken in the day that ends counts for tomorrow's popularity."""
        if taken is not None:
            self.counts[taken] += 1
