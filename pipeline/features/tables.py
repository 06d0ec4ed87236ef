"""`data/features`: the feature tables as Parquet files, the offline source of every view of `feature_repo`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.data.schema import write_table
from pipeline.features import user_history
from pipeline.features.item_statistics import item_statistics
from pipeline.features.knowledge import bucket_width
from pipeline.features.user_tables import user_activity, user_footprint, user_profile


def write_feature_tables(
    folder: Path,
    interactions: Mapping[str, pl.DataFrame],
    users: Mapping[str, pl.DataFrame],
    history_length: int,
    half_life_days: float,
) -> None:
    """Write every feature table into `folder`.

    Args:
        folder: where the tables go.
        interactions: by domain; what may be known (no held-out rows under leave-one-out, where a held-out row is
            the future by definition).
        users: the users table of each domain.
        history_length: interactions kept in `user_history`.
        half_life_days: see `item_statistics`.
    """
    times = [frame["timestamp"].to_physical() for frame in interactions.values() if frame.height]
    since = min((int(series.min()) for series in times), default=0)  # type: ignore[arg-type]
    width = bucket_width([frame["timestamp"] for frame in interactions.values()])
    write_table(user_profile(users), folder / "user_profile.parquet")
    write_table(user_footprint(interactions), folder / "user_footprint.parquet")
    activity = [user_activity(rows, domain) for domain, rows in interactions.items()]
    write_table(pl.concat(activity), folder / "user_activity.parquet")
    del activity
    statistics = [item_statistics(rows, domain, since, half_life_days, width) for domain, rows in interactions.items()]
    write_table(pl.concat(statistics), folder / "item_statistics.parquet")
    del statistics
    histories = (
        states
        for domain, rows in interactions.items()
        for states in user_history.user_history(rows, domain, history_length, width)
    )
    _write_in_parts(histories, folder / "user_history.parquet", user_history.SCHEMA)


def _write_in_parts(parts: Iterable[pa.Table], path: Path, schema: pa.Schema) -> None:
    """Write a table that is never whole in memory, one row group a part, as `write_table` would."""
    with pq.ParquetWriter(path, schema, compression="zstd", version="2.6", coerce_timestamps="us") as writer:
        for part in parts:
            writer.write_table(part.combine_chunks())
