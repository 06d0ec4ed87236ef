"""The interactions of a domain, a file a month: a night adds or changes one of them, and a diff can say which.

    <domain>/interactions/2025-11.parquet    event time in that month, UTC
    <domain>/interactions/undated.parquet    no event time, or one before `EARLIEST`

Items and users change all over, and are one file each. `write_rows` and `read_rows` are the only way in and out, so
that nobody else knows which table is stored how.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from pipeline.data.schema import EARLIEST, TableName, read_table, write_table

if TYPE_CHECKING:
    import polars as pl

PARTITIONED: tuple[TableName, ...] = ("interactions",)
UNDATED = "undated"
TIME = "timestamp"


def write_rows(frame: pl.DataFrame, folder: Path, table: TableName, schema: pa.Schema | None = None) -> None:
    """Write a table of the domain whose folder it is.

    Args:
        frame: the rows, in the canonical order (`SORTED_BY`).
        folder: of the domain.
        schema: the Arrow schema to cast to; None keeps the frame's own.
    """
    if table not in PARTITIONED:
        write_table(frame, folder / f"{table}.parquet", schema)
        return
    import polars as pl

    months = _months(frame)
    for month in months.unique().sort():
        path = folder / table / f"{_name(month)}.parquet"
        write_table(frame.filter(months.eq_missing(pl.lit(month, pl.Int32))), path, schema)
    if frame.is_empty():
        write_table(frame, folder / table / f"{UNDATED}.parquet", schema)  # no rows still have columns


def read_rows(folder: Path, table: TableName) -> pl.DataFrame:
    """Read what `write_rows` wrote, in the canonical order.

    Raises:
        FileNotFoundError: the domain has no such table.
    """
    if table not in PARTITIONED:
        return read_table(folder / f"{table}.parquet")
    import polars as pl

    files = sorted((folder / table).glob("*.parquet"), key=lambda path: (path.stem != UNDATED, path.stem))
    if not files:
        raise FileNotFoundError(f"{folder / table} has no partition")
    frame = pl.concat([read_table(path) for path in files])
    if len(files) == 1:
        return frame
    # Each partition is sorted by user and time, and they follow each other in time: only the users are mixed.
    order = frame.select(pl.arg_sort_by("user_id", maintain_order=True)).to_series()
    # column by column, so that not the whole table stands in memory twice
    return pl.DataFrame([frame.drop_in_place(name).gather(order) for name in frame.columns])


def _months(frame: pl.DataFrame) -> pl.Series:
    """Months since year 0 of each row's event time; null where the row has no sane one."""
    import polars as pl

    if frame.schema.get(TIME) != pl.Datetime("us", "UTC"):
        return pl.repeat(None, frame.height, dtype=pl.Int32, eager=True)  # no canonical table: kept as it came
    moment = pl.col(TIME)
    month = moment.dt.year() * 12 + moment.dt.month().cast(pl.Int32) - 1
    return frame.select(pl.when(moment >= EARLIEST).then(month)).to_series()


def _name(month: int | None) -> str:
    return UNDATED if month is None else f"{month // 12:04d}-{month % 12 + 1:02d}"
