"""When something happened, and when it could first be known: the two clocks of every feature row.

A feature row is a state: what all interactions known at one moment add up to. It carries

* `event_timestamp`: the time of the newest interaction in the state, and
* `created_timestamp`: the moment the state could first be known. A late interaction (it happened on Monday and
  arrived on Friday) makes a new state on Friday and never changes the states before.

States are made by walking the interactions in the order in which they became known, so both clocks only rise. A
retrieval that asks for `created_timestamp <= t` therefore sees exactly the interactions that were known at `t`.
A state includes the interaction that made it: who asks about a sequence asks one microsecond before it.
"""

from __future__ import annotations

from collections.abc import Iterable

import polars as pl

MICROSECONDS = {"day": 86_400_000_000, "hour": 3_600_000_000, "minute": 60_000_000, "second": 1_000_000}
DAY = MICROSECONDS["day"]
FEWEST_BUCKETS = 64
MOMENT = pl.Datetime("us", "UTC")
CLOCKS = ["event_timestamp", "created_timestamp"]


def in_knowledge_order(interactions: pl.DataFrame, *keys: str) -> pl.DataFrame:
    """Interactions sorted by `keys`, then by when they became known.

    Adds `known_at`: `created_at`, but never before the interaction itself (a source's clock may be off).
    """
    known_at = pl.max_horizontal("created_at", "timestamp").fill_null(pl.col("timestamp"))
    return interactions.with_columns(known_at=known_at).sort(
        *keys, "known_at", "timestamp", "item_id", maintain_order=True
    )


def bucket_width(timestamps: Iterable[pl.Series]) -> int:
    """Width in microseconds of the buckets of tables that keep one state a bucket, not one an interaction.

    A day; less where the data spans so few days (a made-up clock may tick in seconds) that states would be stale.

    Args:
        timestamps: of the interactions of each domain.
    """
    times = [series.to_physical() for series in timestamps if len(series)]
    if not times:
        return DAY
    span = max(int(series.max()) for series in times) - min(int(series.min()) for series in times)  # type: ignore[arg-type]
    for width in MICROSECONDS.values():
        if span // width >= FEWEST_BUCKETS:
            return width
    return MICROSECONDS["second"]


def last_of(*keys: str, moment: pl.Expr) -> pl.Expr:
    """True on the last row of each run of equal `keys` and `moment`; the rows must be sorted by them."""
    same = pl.all_horizontal(*[pl.col(key) == pl.col(key).shift(-1) for key in keys], moment == moment.shift(-1))
    return ~same.fill_null(value=False)


def bucket(width: int) -> pl.Expr:
    """The number of the bucket in which a row became known."""
    return pl.col("known_at").to_physical() // width


def count_so_far(key: str) -> pl.Expr:
    """How many interactions of `key` are known so far, this one included."""
    return pl.int_range(1, pl.len() + 1, dtype=pl.Int64).over(key)


def mean_so_far(column: str, key: str) -> pl.Expr:
    """Mean of the values known so far; null before the first."""
    value = pl.col(column).cast(pl.Float64)
    n_known = value.is_not_null().cast(pl.Int64).cum_sum().over(key)
    total = value.fill_null(0.0).cum_sum().over(key)
    return pl.when(n_known > 0).then(total / n_known)
