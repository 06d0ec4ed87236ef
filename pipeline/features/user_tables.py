"""What is known of a user: attributes, activity in each domain, and the footprint over all of them."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from pipeline.features.knowledge import MOMENT, count_so_far, in_knowledge_order, last_of, mean_so_far

EPOCH = pl.lit(0, dtype=pl.Int64).cast(MOMENT)


def user_profile(users: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """One row a user: the attributes all domains know, sorted, without repeats.

    Attributes come without a time (DESIGN §5), so they count as known since 1970.

    Args:
        users: the users table of each domain.
    """
    rows = pl.concat([frame.select("user_id", "attributes") for frame in users.values()])
    attributes = pl.col("attributes").explode(empty_as_null=False, keep_nulls=False).drop_nulls()
    return (
        rows.group_by("user_id")
        .agg(attributes=attributes.unique().sort())
        .sort("user_id")
        .with_columns(event_timestamp=EPOCH, created_timestamp=EPOCH)
    )


def user_activity(interactions: pl.DataFrame, domain: str) -> pl.DataFrame:
    """States of (user, domain): one row for every moment at which something became known.

    Columns: n_interactions; mean_value (null while no interaction had a value); first_time and last_time
    (microseconds UTC, so that whoever asks derives the days since).
    """
    return (
        in_knowledge_order(interactions, "user_id")
        .with_columns(
            n_interactions=count_so_far("user_id"),
            mean_value=mean_so_far("value", "user_id"),
            first_time=pl.col("timestamp").cum_min().over("user_id").to_physical(),
            last_time=pl.col("timestamp").cum_max().over("user_id").to_physical(),
        )
        .filter(last_of("user_id", moment=pl.col("known_at")))
        .select(
            "user_id",
            pl.lit(domain).alias("domain"),
            "n_interactions",
            "mean_value",
            "first_time",
            "last_time",
            event_timestamp=pl.col("last_time").cast(MOMENT),
            created_timestamp="known_at",
        )
    )


def user_footprint(interactions: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """States of a user over all domains: n_interactions, n_domains, first_time, last_time.

    Values are left out: a rating in one domain and a price in another have no mean.
    """
    columns = ["user_id", "item_id", "timestamp", "created_at"]
    rows = pl.concat(
        [
            frame.select(*columns, domain=pl.lit(number, dtype=pl.Int16))
            for number, frame in enumerate(interactions.values())
        ]
    )
    first_in_domain = pl.int_range(pl.len()).over("user_id", "domain") == 0
    return (
        in_knowledge_order(rows, "user_id")
        .with_columns(first_in_domain=first_in_domain)
        .with_columns(
            n_interactions=count_so_far("user_id"),
            n_domains=pl.col("first_in_domain").cast(pl.Int64).cum_sum().over("user_id"),
            first_time=pl.col("timestamp").cum_min().over("user_id").to_physical(),
            last_time=pl.col("timestamp").cum_max().over("user_id").to_physical(),
        )
        .filter(last_of("user_id", moment=pl.col("known_at")))
        .select(
            "user_id",
            "n_interactions",
            "n_domains",
            "first_time",
            "last_time",
            event_timestamp=pl.col("last_time").cast(MOMENT),
            created_timestamp="known_at",
        )
    )
