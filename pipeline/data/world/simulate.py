"""Who takes what, when: one vectorised step per position, for all users who are still there.

The oracle's rank is computed with the draw: how many items available and unseen had a higher true probability.
Counting over topics by binary search makes it O(K log N) an interaction in place of O(N).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.data.world.params import COLD_FROM, EPOCHS, Market
from pipeline.data.world.truth import Catalogue, Floats, Ints, People, Shared, item_scores, topic_mix

CHUNK = 32_768  # users a step handles at once: bounds the [users, topics] temporaries
PATIENCE = 24  # redraws before the few who have had nearly everything are drawn from their exact distribution


@dataclass(frozen=True)
class Visits:
    """The interactions of one market, one row each, users in order and chronological within a user.

    Attributes:
        user: index into the market's members; item: index into its catalogue.
        moment: share of the time range gone, in [0, 1).
        rank: 1-based rank of the item under the true probabilities.
        taste: the user's taste for the item's topic (events depend on it).
    """

    user: Ints
    item: Ints
    moment: Floats
    rank: Ints
    taste: Floats


def epoch_of(moment: Floats) -> Ints:
    """Epoch of a share of the time range."""
    return np.minimum((moment * EPOCHS).astype(np.int64), EPOCHS - 1)


def draw_lengths(rng: np.random.Generator, market: Market) -> Ints:
    """[U] interactions per user: skewed, at least 1, at most a third of the catalogue and 120."""
    shape = 1.4
    lengths = 1 + rng.negative_binomial(shape, shape / (shape + market.mean_length - 1), market.users)
    return np.minimum(lengths, min(120, market.items // 3))


def draw_moments(rng: np.random.Generator, lengths: Ints) -> list[Floats]:
    """Sorted moments of every user. One user in seven joins after `COLD_FROM`; most stay until the end."""
    users = len(lengths)
    late = rng.random(users) < 0.15
    joined = np.where(late, rng.uniform(COLD_FROM, 0.995, users), rng.uniform(0, COLD_FROM, users))
    left = np.where(rng.random(users) < 0.7, 1.0, rng.uniform(joined, 1.0))
    owner = np.repeat(np.arange(users), lengths)
    moment = joined[owner] + (left - joined)[owner] * rng.random(len(owner))
    order = np.lexsort((moment, owner))
    return np.split(moment[order], np.cumsum(lengths)[:-1])


class Ranker:
    """Counts, for a market, the available items of a topic that weigh more than a threshold."""

    def __init__(self, catalogue: Catalogue) -> None:
        count = len(catalogue.topic)
        self.catalogue = catalogue
        self.topics = len(catalogue.topic_start) - 1
        self.scale = catalogue.weight.max() * 1.01
        # One sorted array for all (epoch, topic) segments: segment number + falling weight mapped into (0, 1);
        # what is not available stands at the very end of its segment, where no threshold reaches.
        segment = np.arange(EPOCHS)[:, None] * self.topics + catalogue.topic
        key = segment + np.where(catalogue.available, 1 - catalogue.weight / self.scale, 1 - 1e-9)
        self.keys = np.sort(key, axis=1).ravel()
        self.segment_start = (np.arange(EPOCHS)[:, None] * count + catalogue.topic_start[:-1]).ravel()
        before: Ints = (
            np.cumsum(catalogue.available, axis=1) - catalogue.available
        )  # available items before i in its epoch
        self.rank_in_topic: Ints = before - before[:, catalogue.topic_start[:-1]][:, catalogue.topic]

    def rank(self, mix: Floats, epoch: Ints, item: Ints, seen: Ints) -> Ints:
        """[n] 1-based ranks. `mix` [n, K]; `epoch`, `item` [n]; `seen` [n, j] item indices."""
        catalogue, rows = self.catalogue, np.arange(len(item))
        per_weight = mix / catalogue.total[epoch]  # (n, K)
        topic = catalogue.topic[item]
        score = per_weight[rows, topic] * catalogue.weight[item]
        threshold = np.minimum(score[:, None] / per_weight / self.scale, 1.0)
        segment = epoch[:, None] * self.topics + np.arange(self.topics)
        heavier = np.searchsorted(self.keys, segment + (1 - np.maximum(threshold, 1e-8))) - self.segment_start[segment]
        heavier[rows, topic] = self.rank_in_topic[epoch, item]  # exact where rounding could count the item itself
        seen_score = per_weight[rows[:, None], catalogue.topic[seen]] * catalogue.weight[seen]
        return 1 + heavier.sum(1) - (seen_score > score[:, None]).sum(1)


class Chooser:
    """Draws items of given topics from the available ones by weight."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        weight = np.where(catalogue.available, catalogue.weight, 0.0)
        self.below = np.cumsum(weight, axis=1)
        self.stride = self.below[:, -1].max() + 1.0
        self.flat = (self.below + np.arange(EPOCHS)[:, None] * self.stride).ravel()

    def draw(self, rng: np.random.Generator, mix: Floats, epoch: Ints) -> Ints:
        """[n] item indices. `mix` [n, K]; `epoch` [n]."""
        catalogue, count = self.catalogue, len(self.catalogue.topic)
        cumulative = np.cumsum(mix, axis=1)
        topic = (cumulative[:, :-1] < rng.random(len(mix))[:, None] * cumulative[:, -1:]).sum(1)
        start, end = catalogue.topic_start[topic], catalogue.topic_start[topic + 1]
        base = np.where(start > 0, self.below[epoch, start - 1], 0.0)
        point = epoch * self.stride + base + rng.random(len(mix)) * catalogue.total[epoch, topic]
        return np.clip(np.searchsorted(self.flat, point, side="right") - epoch * count, start, end - 1)


def simulate(
    rng: np.random.Generator, market: Market, shared: Shared, catalogue: Catalogue, people: People, members: NDArray
) -> Visits:
    """Every interaction of one market. `members` [U]: which persons are its users."""
    lengths = np.sort(draw_lengths(rng, market))[::-1]  # longest first: the active users of a step are a prefix
    members = members[: len(lengths)]
    moments = draw_moments(rng, lengths)
    ranker, chooser = Ranker(catalogue), Chooser(catalogue)
    longest = int(lengths[0])
    items = np.full((len(lengths), longest), -1, dtype=np.int32)
    ranks = np.zeros_like(items)
    when = np.zeros((len(lengths), longest))
    for user, moment in enumerate(moments):
        when[user, : len(moment)] = moment
    for step in range(longest):
        active = int(np.searchsorted(-lengths, -step))  # users with more than `step` interactions
        for first in range(0, active, CHUNK):
            rows = slice(first, min(first + CHUNK, active))
            seen = items[rows, :step].astype(np.int64)
            last = catalogue.topic[seen[:, -1]] if step else np.full(rows.stop - rows.start, -1)
            epoch = epoch_of(when[rows, step])
            mix = topic_mix(shared, people.taste[members[rows]], last, epoch)
            chosen = _draw_unseen(rng, catalogue, chooser, mix, epoch, seen)
            items[rows, step] = chosen
            ranks[rows, step] = ranker.rank(mix, epoch, chosen, seen)
    present = items >= 0
    owner = np.repeat(np.arange(len(lengths)), lengths)
    item = items[present].astype(np.int64)
    taste = people.taste[members[owner], catalogue.topic[item]]
    return Visits(owner, item, when[present], ranks[present].astype(np.int64), taste)


def _draw_unseen(
    rng: np.random.Generator, catalogue: Catalogue, chooser: Chooser, mix: Floats, epoch: Ints, seen: Ints
) -> Ints:
    chosen = chooser.draw(rng, mix, epoch)
    again = np.arange(len(mix))
    for _ in range(PATIENCE):
        repeated = (seen[again] == chosen[again, None]).any(1) | ~catalogue.available[epoch[again], chosen[again]]
        again = again[repeated]
        if len(again) == 0:
            return chosen
        chosen[again] = chooser.draw(rng, mix[again], epoch[again])
    for row in again:
        scores = item_scores(catalogue, mix[row], int(epoch[row]))
        scores[seen[row]] = 0.0
        chosen[row] = rng.choice(len(scores), p=scores / scores.sum())
    return chosen
