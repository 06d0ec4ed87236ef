"""What Feast knows, as numbers a model can take: about the unit range, and never missing.

Counts and days go through log1p and reach 1 at a thousand; values are standardised with the mean and spread of
the domain's training rows. What is missing is 0, with a `has_…` beside it that says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log1p
from typing import TypedDict

import polars as pl

from pipeline.features.knowledge import DAY

LARGE = log1p(1000)
FURTHEST = 3.0  # standard deviations

OWN_FEATURES = ("has_attributes", "attribute_count")
FOOTPRINT_FEATURES = (
    "has_footprint",
    "footprint_interactions",
    "footprint_domains",
    "footprint_days_since_first",
    "footprint_days_since_last",
)
ACTIVITY_FEATURES = ("interactions", "days_since_last", "value")  # of each domain: `<domain>_…`
ITEM_FEATURES = (
    "has_statistics",
    "interactions",
    "recent_interactions",
    "days_since_last",
    "has_value",
    "value",
    "has_age",
    "age",
)


class ValueScale(TypedDict):
    """Mean and standard deviation of the values of a domain's training rows."""

    mean: float
    spread: float


def value_scale(training_values: pl.Series) -> ValueScale:
    """The scale of one domain; 0 and 1 where no value says otherwise."""
    values = training_values.drop_nulls().drop_nans().cast(pl.Float64)
    spread = values.std() if len(values) > 1 else None
    mean = values.mean()
    return {"mean": float(mean or 0.0), "spread": float(spread or 1.0)}  # type: ignore[arg-type]


def profile_feature_names(domains: Sequence[str], clock: str) -> tuple[str, ...]:
    """The profile features of a dataset.

    What a user does elsewhere is only asked where there is an elsewhere, and a clock: where an order stands in
    for the clock, no time of one domain can be compared with a time of another.
    """
    if len(domains) < 2 or clock != "real":
        return OWN_FEATURES
    elsewhere = [f"{domain}_{name}" for domain in domains for name in ACTIVITY_FEATURES]
    return (*OWN_FEATURES, *FOOTPRINT_FEATURES, *elsewhere)


def profile_features(
    known: pl.DataFrame,
    activity: Mapping[str, pl.DataFrame],
    scales: Mapping[str, ValueScale],
    names: Sequence[str],
) -> pl.DataFrame:
    """The profile of users at the moments they were asked for.

    Args:
        known: the answer of the service `users`, one row a user, with `event_timestamp`.
        activity: by domain, the answer of the service `activity` for the same rows.
        scales: value scale by domain.
        names: of `profile_feature_names`.

    Returns:
        float32 columns `names`, in the order of `known`.
    """
    now = pl.col("event_timestamp").to_physical()
    table = known.select(
        has_attributes=_flag(pl.col("attributes").list.len() > 0),
        attribute_count=_counted(pl.col("attributes").list.len()),
        has_footprint=_flag(pl.col("n_interactions").is_not_null()),
        footprint_interactions=_counted(pl.col("n_interactions")),
        footprint_domains=pl.col("n_domains").fill_null(0) / max(len(scales), 1),
        footprint_days_since_first=_days(now - pl.col("first_time")),
        footprint_days_since_last=_days(now - pl.col("last_time")),
    )
    for domain, answer in activity.items():
        elsewhere = answer.select(
            _counted(pl.col("n_interactions")).alias(f"{domain}_interactions"),
            _days(now - pl.col("last_time")).alias(f"{domain}_days_since_last"),
            _standardised("mean_value", scales[domain]).alias(f"{domain}_value"),
        )
        table = table.hstack(elsewhere)
    return table.select(pl.col(name).cast(pl.Float32).round(6) for name in names)


def item_features(
    known: pl.DataFrame, available_from: pl.Series, scale: ValueScale, half_life_days: float
) -> pl.DataFrame:
    """The features of items at the moment they were asked for.

    Args:
        known: the answer of the service `items`, with `event_timestamp`.
        available_from: since when each item can be chosen; null where unknown.
        scale: value scale of the domain.
        half_life_days: of `item_statistics`; recent interactions have aged on since the item's last state.

    Returns:
        float32 columns `ITEM_FEATURES`, in the order of `known`.
    """
    now = pl.col("event_timestamp").to_physical()
    aged = pl.col("recent_interactions") * 0.5 ** ((now - pl.col("last_time")) / (half_life_days * DAY))
    table = known.with_columns(available_from=available_from).select(
        has_statistics=_flag(pl.col("n_interactions").is_not_null()),
        interactions=_counted(pl.col("n_interactions")),
        recent_interactions=_counted(aged),
        days_since_last=_days(now - pl.col("last_time")),
        has_value=_flag(pl.col("mean_value").is_not_null()),
        value=_standardised("mean_value", scale),
        has_age=_flag(pl.col("available_from").is_not_null()),
        age=_days(now - pl.col("available_from").to_physical()),
    )
    return table.select(pl.col(name).cast(pl.Float32).round(6) for name in ITEM_FEATURES)


def _flag(condition: pl.Expr) -> pl.Expr:
    return condition.fill_null(value=False).cast(pl.Float32)


def _counted(count: pl.Expr) -> pl.Expr:
    return count.fill_null(0).cast(pl.Float64).log1p() / LARGE


def _days(microseconds: pl.Expr) -> pl.Expr:
    return (microseconds.fill_null(0).clip(lower_bound=0).cast(pl.Float64) / DAY).log1p() / LARGE


def _standardised(column: str, scale: ValueScale) -> pl.Expr:
    value = (pl.col(column) - scale["mean"]) / scale["spread"]
    return value.clip(-FURTHEST, FURTHEST).fill_null(0.0)
