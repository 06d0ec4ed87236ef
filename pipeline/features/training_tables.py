"""`users.parquet` and `items.parquet` of a domain: what Feast knew when the models may know it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import polars as pl

from pipeline.data.schema import vector_columns
from pipeline.features.knowledge import MOMENT
from pipeline.features.model_inputs import (
    ValueScale,
    item_features,
    profile_feature_names,
    profile_features,
)
from pipeline.features.store import point_in_time_join

if TYPE_CHECKING:
    from feast import FeatureStore

STRINGS = pl.List(pl.String)


def user_entities(rows: pl.DataFrame) -> pl.DataFrame:
    """Who Feast is asked about, and when: every user one microsecond before their first interaction in a domain.

    So no profile contains a row of the sequence it opens. A user whose first interaction is held out (a cold
    one) is known as of that interaction.

    Args:
        rows: all interactions of the domain, with `user_index`.

    Returns:
        user_id, event_timestamp; row u is user u.
    """
    return (
        rows.group_by("user_index", maintain_order=True)
        .agg(
            pl.col("user_id").first(),
            (pl.col("timestamp").min() - pl.duration(microseconds=1)).alias("event_timestamp"),
        )
        .sort("user_index")
        .select("user_id", "event_timestamp")
    )


def item_entities(items: pl.DataFrame, domain: str, cut: int) -> pl.DataFrame:
    """What Feast is asked about the items: each as it was known at the end of training.

    Args:
        items: the items table of the domain.
        cut: microseconds UTC; nothing younger is in the statistics.

    Returns:
        item_id, domain, event_timestamp; row i is item i + 1.
    """
    return items.select("item_id", domain=pl.lit(domain), event_timestamp=pl.lit(cut, pl.Int64).cast(MOMENT))


def user_table(store: FeatureStore, starts: pl.DataFrame, scales: Mapping[str, ValueScale], clock: str) -> pl.DataFrame:
    """The users of a domain as they were known when their sequence begins.

    Args:
        store: an open store.
        starts: of `user_entities`.
        scales: value scale of every domain of the dataset, in its order.
        clock: "real" or "order".

    Returns:
        user_id, attributes and the profile features; row u is user u.
    """
    domains = list(scales)
    names = profile_feature_names(domains, clock)
    if starts.is_empty():
        return starts.select("user_id", attributes=pl.lit(None, STRINGS)).with_columns(
            pl.lit(0, pl.Float32).alias(name) for name in names
        )
    known = point_in_time_join(store, starts, "users")
    elsewhere = domains if len(names) > len(profile_feature_names(domains[:1], clock)) else []
    activity = {
        domain: point_in_time_join(store, starts.with_columns(domain=pl.lit(domain)), "activity")
        for domain in elsewhere
    }
    attributes = pl.col("attributes").cast(STRINGS).fill_null(pl.lit([], STRINGS))
    return known.select("user_id", attributes).hstack(profile_features(known, activity, scales, names))


def item_table(
    store: FeatureStore,
    rows: pl.DataFrame,
    items: pl.DataFrame,
    asked: pl.DataFrame,
    scale: ValueScale,
    half_life_days: float,
) -> pl.DataFrame:
    """The items of a domain with their statistics as known at the end of training.

    Args:
        store: an open store.
        rows: all interactions of the domain, with `item_index` and `part`.
        items: the items table; row i is item i + 1.
        asked: of `item_entities`.
        scale: value scale of the domain.
        half_life_days: of `item_statistics`.

    Returns:
        The items table with `in_training` and the item features.
    """
    trained = rows.filter(pl.col("part") == "train")["item_index"].unique()
    table = items.select(
        "item_id",
        "text",
        attributes=pl.col("attributes").fill_null(pl.lit([], STRINGS)),
        available_from="available_from",
        in_training=pl.int_range(1, pl.len() + 1, dtype=pl.Int32).is_in(trained.implode()),
    )
    known = point_in_time_join(store, asked, "items")
    features = item_features(known, items["available_from"], scale, half_life_days)
    return table.hstack(features).hstack(items.select(vector_columns(items.columns)))
