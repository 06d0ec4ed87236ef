"""How much an item is wanted: counts that never look ahead, one state a bucket (a day)."""

from __future__ import annotations

import polars as pl

from pipeline.exit_codes import BadConfiguration
from pipeline.features.knowledge import (
    DAY,
    MOMENT,
    bucket,
    count_so_far,
    in_knowledge_order,
    last_of,
    mean_so_far,
)

MOST_HALF_LIVES = 900  # 2^900 still fits a double


def item_statistics(
    interactions: pl.DataFrame, domain: str, since: int, half_life_days: float, width: int
) -> pl.DataFrame:
    """States of (item, domain).

    Columns: n_interactions; recent_interactions, each counting 0.5^(age / half-life) at `event_timestamp`;
    mean_value (null while unknown); last_time (microseconds UTC).

    Args:
        interactions: of one domain.
        domain: its name.
        since: microseconds UTC of the dataset's first interaction.
        half_life_days: after so many days an interaction counts half in `recent_interactions`.
        width: bucket width, microseconds; a state is at most so stale.

    Raises:
        BadConfiguration: the data spans too many half-lives to be summed in a double.
    """
    half_life = half_life_days * DAY
    age = (pl.col("timestamp").to_physical() - since) / half_life
    if interactions.height:
        _refuse_overflow(interactions, since, half_life_days)
    # Σ 0.5^(now − tᵢ) = 2^−now · Σ 2^tᵢ: a running sum, with no loop over states
    grown = age.map_batches(lambda x: 2.0**x, return_dtype=pl.Float64).cum_sum().over("item_id")
    shrunk = (age.cum_max().over("item_id") * -1.0).map_batches(lambda x: 2.0**x, return_dtype=pl.Float64)
    return (
        in_knowledge_order(interactions, "item_id")
        .with_columns(
            n_interactions=count_so_far("item_id"),
            recent_interactions=(grown * shrunk).round(4),
            mean_value=mean_so_far("value", "item_id"),
            last_time=pl.col("timestamp").cum_max().over("item_id").to_physical(),
        )
        .filter(last_of("item_id", moment=bucket(width)))
        .select(
            "item_id",
            pl.lit(domain).alias("domain"),
            "n_interactions",
            "recent_interactions",
            "mean_value",
            "last_time",
            event_timestamp=pl.col("last_time").cast(MOMENT),
            created_timestamp="known_at",
        )
    )


def _refuse_overflow(interactions: pl.DataFrame, since: int, half_life_days: float) -> None:
    span_days = (int(interactions["timestamp"].to_physical().max()) - since) / DAY  # type: ignore[arg-type]
    if span_days / half_life_days > MOST_HALF_LIVES:
        raise BadConfiguration(
            f"features.half_life_days is {half_life_days:g} and the data spans {span_days:,.0f} days;"
            f" set it to {span_days / MOST_HALF_LIVES:,.1f} or more"
        )
