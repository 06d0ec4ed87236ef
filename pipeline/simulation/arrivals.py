"""Who joins a market and what is listed there on one simulated day, drawn as the world draws its own.

A day's newcomers depend on the seed, the market and the day alone: a simulation that is made longer begins the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from pipeline.data.world.generate import World
from pipeline.data.world.params import Market
from pipeline.data.world.truth import LAUNCH, ZIPF, Catalogue, Floats, Ints, draw_people, lexicon
from pipeline.data.world.wording import item_table, person_table

NEW_SHARE = 0.02  # of the market's users, and of its items, that come anew each day
STREAM = 0xA221


@dataclass(frozen=True)
class Newcomers:
    """One day's. U users, N items, K topics.

    Attributes:
        users: `user_id`, `attributes`; taste: [U, K].
        items: `item_id`, `text`, `attributes`; topic, weight: [N], as `Catalogue` has them.
    """

    users: pl.DataFrame
    taste: Floats
    items: pl.DataFrame
    topic: Ints
    weight: Floats


def newcomers(world: World, name: str, market: Market, day: int, seed: int) -> Newcomers:
    """Newcomers of market `name` on day number `day` (from 1)."""
    rng = np.random.default_rng([seed, STREAM, sorted(world.markets).index(name), day])
    words, topics = lexicon(), world.shared.transition.shape[0]
    people = draw_people(rng, world.shared, _count(market.users))
    ids = pl.Series("user_id", [f"{name}-day{day}-{n}" for n in range(len(people.segment))])
    users = person_table(rng, words, people.segment).with_columns(ids)
    count = _count(market.items)
    topic = rng.integers(0, topics, count)
    rank = 1 + rng.integers(0, max(1, market.items // topics), count)  # any place among the topic's, by popularity
    weight = LAUNCH * rank**-ZIPF * rng.uniform(0.9, 1.1, count)
    nothing = np.zeros(0)
    listed = Catalogue(topic, weight, np.zeros(count, np.int64), nothing, nothing, nothing)  # type: ignore[arg-type]
    items = item_table(rng, words, listed, prefix=f"{name[0]}day{day}-").drop("first_epoch")
    return Newcomers(users, people.taste, items, topic, weight)


def _count(there: int) -> int:
    return int(np.ceil(NEW_SHARE * there))
