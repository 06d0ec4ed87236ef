"""The canonical tables: one layout for every dataset, one way to write it and one way to read it.

Timestamps are microseconds in UTC; ids are text; a missing text, value or availability is null, never a sentinel.
Besides the columns below a table may carry `oracle_rank` (interactions of the synthetic world: the true rank of what
was chosen) and any `<name>_vector` (items: a modality the user brings, one width per column).
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    import polars as pl

TableName = Literal["interactions", "items", "users"]
TABLES: tuple[TableName, ...] = ("interactions", "items", "users")

MOMENT = pa.timestamp("us", tz="UTC")
SCHEMAS: dict[TableName, pa.Schema] = {
    "interactions": pa.schema(
        [
            ("user_id", pa.string()),
            ("item_id", pa.string()),
            ("timestamp", MOMENT),
            ("event", pa.string()),
            ("value", pa.float32()),
            ("created_at", MOMENT),  # when the row became known; a late row is younger than what it tells of
        ]
    ),
    "items": pa.schema(
        [
            ("item_id", pa.string()),
            ("text", pa.string()),
            ("attributes", pa.list_(pa.string())),
            ("available_from", MOMENT),
        ]
    ),
    "users": pa.schema([("user_id", pa.string()), ("attributes", pa.list_(pa.string()))]),
}
REQUIRED: dict[TableName, tuple[str, ...]] = {
    "interactions": ("user_id", "item_id", "timestamp"),
    "items": ("item_id",),
    "users": ("user_id",),
}
SORTED_BY: dict[TableName, list[str]] = {
    "interactions": ["user_id", "timestamp", "item_id"],
    "items": ["item_id"],
    "users": ["user_id"],
}
EARLIEST = datetime(1990, 1, 1, tzinfo=UTC)  # no recommender logged anything before: an older timestamp is a fault
DEFAULT_EVENT = "interaction"  # of a source that has no event column
# Kept in the snapshot and not learned: a next item that was refused is no next item. A server leaves it out by filter.
NEGATIVE_EVENTS = ("dislike",)
ORACLE_RANK = pa.field("oracle_rank", pa.int32())
VECTOR_SUFFIX = "_vector"


def vector_columns(names: list[str]) -> list[str]:
    """The `<name>_vector` columns among `names`."""
    return [name for name in names if name.endswith(VECTOR_SUFFIX)]


def schema_of(table: TableName, columns: list[str]) -> pa.Schema:
    """The full schema of a table that has `columns`: the canonical ones first, then the known extras by name."""
    extras = []
    if table == "interactions" and ORACLE_RANK.name in columns:
        extras.append(ORACLE_RANK)
    if table == "items":
        extras += [pa.field(name, pa.list_(pa.float32())) for name in sorted(vector_columns(columns))]
    return pa.schema([*SCHEMAS[table], *extras])


def write_table(frame: pl.DataFrame | pa.Table, path: Path, schema: pa.Schema | None = None) -> None:
    """Write Parquet whose bytes depend on the rows alone: no pandas metadata, one codec, fixed row groups.

    Args:
        frame: the rows, already in their final order.
        path: the file; its folder is made.
        schema: the Arrow schema to cast to; None keeps the frame's own.
    """
    table = frame if isinstance(frame, pa.Table) else frame.to_arrow()
    if schema is not None:
        table = table.select(schema.names).cast(schema)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(
        table.replace_schema_metadata(None).combine_chunks(),
        path,
        compression="zstd",
        version="2.6",
        coerce_timestamps="us",
        row_group_size=262_144,
    )


def read_table(path: Path, columns: list[str] | None = None) -> pl.DataFrame:
    """Read what `write_table` wrote."""
    import polars as pl

    # partitioning=None: a folder named `a=b` on the way is a name, not a column
    table = pq.read_table(path, columns=columns, partitioning=None)
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame
