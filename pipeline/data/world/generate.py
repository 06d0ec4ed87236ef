"""From parameters to the canonical tables of every market."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import polars as pl

from pipeline.data.world.params import END, EPOCHS, START, Market, WorldParams, world_domains
from pipeline.data.world.simulate import Visits, simulate
from pipeline.data.world.truth import Catalogue, People, Shared, draw_catalogue, draw_people, draw_shared, lexicon
from pipeline.data.world.wording import item_table, person_table

LATE_ROWS = 0.03  # share of interactions that become known only days after they happened
YEAR_US = int((END - START) / timedelta(microseconds=1))
MOMENT = pl.Datetime("us", "UTC")


@dataclass(frozen=True)
class MarketTables:
    """The tables of one market and, for tests, what is true behind them.

    Attributes:
        interactions, items, users: canonical tables; interactions carry `oracle_rank`.
        members: [U] person of every user index; `visits.user` indexes it.
    """

    interactions: pl.DataFrame
    items: pl.DataFrame
    users: pl.DataFrame
    catalogue: Catalogue
    visits: Visits
    members: np.ndarray


@dataclass(frozen=True)
class World:
    """All markets by name, and what they share."""

    markets: dict[str, MarketTables]
    shared: Shared
    people: People


def generate(params: WorldParams, seed: int) -> World:
    """The clean world (`dirt.soil` makes it dirty).

    Args:
        seed: used unless the parameters bring their own.
    """
    root = np.random.SeedSequence([params.seed if params.seed is not None else seed, 0x3A97])
    world_seed, *market_seeds = root.spawn(1 + len(world_domains(params)))
    rng = np.random.default_rng(world_seed)
    words = lexicon()
    markets = world_domains(params)
    shared = draw_shared(rng, len(words.topics), len(words.segments))
    people = draw_people(rng, shared, sum(market.users for market in markets.values()))
    persons = person_table(rng, words, people.segment)
    membership = _memberships(rng, markets)
    tables = {
        name: _market(np.random.default_rng(own_seed), name, markets[name], shared, people, persons, membership[name])
        for (name, own_seed) in zip(markets, market_seeds, strict=True)
    }
    return World(tables, shared, people)


def _memberships(rng: np.random.Generator, markets: dict[str, Market]) -> dict[str, np.ndarray]:
    """Which persons are users of each market: `shared` of them already are users of an earlier one."""
    taken = 0
    membership: dict[str, np.ndarray] = {}
    for name, market in markets.items():
        known = round(market.shared * market.users) if taken else 0
        old = rng.choice(taken, known, replace=False)
        new = np.arange(taken, taken + market.users - known)
        membership[name] = rng.permutation(np.concatenate([old, new]).astype(np.int64))
        taken += len(new)
    return membership


def _market(
    rng: np.random.Generator,
    name: str,
    market: Market,
    shared: Shared,
    people: People,
    persons: pl.DataFrame,
    members: np.ndarray,
) -> MarketTables:
    words = lexicon()
    catalogue = draw_catalogue(rng, market, len(words.topics))
    items = item_table(rng, words, catalogue, prefix=name[0])
    visits = simulate(rng, market, shared, catalogue, people, members)
    users = persons[members]
    interactions = pl.DataFrame(
        {
            "user_id": users["user_id"].gather(visits.user),
            "item_id": items["item_id"].gather(visits.item),
            "timestamp": _clock(visits.moment),
            **_events(rng, visits),
            "created_at": _clock(visits.moment, late=_lateness(rng, len(visits.item))),
            "oracle_rank": pl.Series(visits.rank, dtype=pl.Int32),
        }
    )
    epoch = items["first_epoch"].to_numpy()
    # The first catalogue is as old as the world, and has no date that a shop would know.
    available = pl.Series(START_US + _epoch_start(epoch)).cast(MOMENT)
    dated = pl.when(pl.col("first_epoch") > 0).then(available)
    shown = items.select("item_id", "text", "attributes", available_from=dated)
    return MarketTables(interactions, shown, users, catalogue, visits, members)


START_US = int(START.timestamp()) * 1_000_000


def _epoch_start(epoch: np.ndarray) -> np.ndarray:
    """Microseconds from START to the beginning of an epoch, rounded as `_clock` rounds."""
    return (epoch / EPOCHS * YEAR_US).astype(np.int64)


def _clock(moment: np.ndarray, late: np.ndarray | None = None) -> pl.Series:
    since = (moment * YEAR_US).astype(np.int64)
    return pl.Series(START_US + since + (0 if late is None else late)).cast(MOMENT)


def _lateness(rng: np.random.Generator, rows: int) -> np.ndarray:
    """Microseconds between what happened and when it became known: none for most, days for `LATE_ROWS`."""
    days = rng.exponential(3.0, rows) + 0.05
    return np.where(rng.random(rows) < LATE_ROWS, days * 86_400e6, 0.0).astype(np.int64)


def _events(rng: np.random.Generator, visits: Visits) -> dict[str, pl.Series]:
    """Event and value: who likes the topic buys, who buys pays."""
    draw = rng.random(len(visits.item))
    buys = draw < 0.08 + 0.5 * visits.taste
    carts = ~buys & (draw > 0.88)
    price = np.round(np.exp(rng.normal(3.0, 0.6, len(visits.item))), 2)
    return {
        "event": pl.Series(np.where(buys, "purchase", np.where(carts, "cart", "view"))),
        "value": pl.Series(np.where(buys, price, np.nan), dtype=pl.Float32).fill_nan(None),
    }
