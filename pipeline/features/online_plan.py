"""What of a feature table the online store lacks. Reads the table's keys and clocks; imports no Feast.

The window of a push is `[settled, as_of)` in the time at which rows became known, not in the time of the events:
a late event makes a state whose event time lies before the watermark, and it must be pushed all the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from pipeline.data.sequences import Array
from pipeline.features.knowledge import DAY
from pipeline.features.watermarks import Watermark

BATCH_ROWS = 100_000
Reason = Literal["new", "continued", "history changed", "nothing to do", "newer run was here"]


@dataclass(frozen=True)
class Plan:
    """What to do about one view.

    Attributes:
        reason: why.
        rows: row numbers in the table to push, the newest state of each key, in the order they became known.
        known_at: int64 microseconds, when each of `rows` became known.
        start: beginning of the window, None for the beginning of time.
    """

    reason: Reason
    rows: Array
    known_at: Array
    start: datetime | None

    @property
    def nothing(self) -> bool:
        """Nothing is to be pushed."""
        return self.reason in ("nothing to do", "newer run was here")


class Table:
    """One feature table with what is needed to plan.

    Args:
        path: Parquet file of the view.
        keys: its join keys.
    """

    def __init__(self, path: Path, keys: tuple[str, ...]) -> None:
        self.path = path
        self.keys = keys
        file = pq.ParquetFile(path)
        known, hashes = [np.zeros(0, np.int64)], [np.zeros(0, np.uint64)]
        ids = [pl.DataFrame(schema=dict.fromkeys(keys, pl.String))]
        for batch in file.iter_batches(BATCH_ROWS):
            frame = pl.DataFrame(pl.from_arrow(batch))
            known.append(frame["created_timestamp"].to_physical().to_numpy())
            hashes.append(frame.hash_rows(seed=0).to_numpy())
            ids.append(frame.select(keys))
        self.known_at = np.concatenate(known)
        self._hashes = np.concatenate(hashes)
        self._ids = pl.concat(ids)

    def digest(self, before: datetime) -> str:
        """What the rows known before a moment say, whatever their order: their number and a sum of hashes.

        The hash is polars', which may change with its version: then history looks changed and is pushed again.
        """
        below = self.known_at < micros(before)
        return f"{below.sum()}:{self._hashes[below].sum(dtype=np.uint64):016x}"

    def newest(self, start: datetime | None, end: datetime) -> Array:
        """Row numbers of the newest state of each key among those known in `[start, end)`, oldest first."""
        inside = self.known_at < micros(end)
        if start is not None:
            inside &= self.known_at >= micros(start)
        places = np.flatnonzero(inside)
        order = places[np.argsort(self.known_at[places], kind="stable")]
        ids = self._ids[order].with_columns(place=pl.Series(order))
        return ids.unique(self.keys, keep="last", maintain_order=True)["place"].to_numpy()

    def ids(self, rows: Array) -> pl.DataFrame:
        """The keys of those rows."""
        return self._ids[rows]

    def read(self, rows: Array) -> pl.DataFrame:
        """Those rows, in that order."""
        numbered = pl.scan_parquet(self.path).with_row_index("place")
        found = numbered.filter(pl.col("place").is_in(pl.Series(rows, dtype=pl.get_index_type()).implode()))
        order = pl.DataFrame({"place": pl.Series(rows, dtype=pl.get_index_type())})
        return order.join(found.collect(), on="place", how="left", maintain_order="left").drop("place")


def plan(table: Table, marks: Mapping[str, Watermark], view: str, as_of: datetime) -> Plan:
    """Decide what of `table` is to be pushed for a run of `as_of`.

    Args:
        table: the view's table.
        marks: how far the views of the project are filled; none for a view that never was. A newer run that was
            killed after one view keeps an older run away from all of them.
        view: which of them the table is.
        as_of: exclusive upper bound of the run.
    """
    mark, nothing = marks.get(view), np.zeros(0, np.int64)
    if any(other.as_of > as_of for other in marks.values()):
        return Plan("newer run was here", nothing, nothing, None)
    if mark is None:
        reason, start = "new", None
    elif mark.watermark == as_of and mark.pushed == table.digest(as_of):
        return Plan("nothing to do", nothing, nothing, as_of)
    elif mark.watermark is not None and mark.watermark < as_of and _still_holds(mark.watermark, mark.settled, table):
        reason, start = "continued", settled_before(mark.watermark)
    else:
        reason, start = "history changed", None
    rows = table.newest(start, as_of)
    return Plan(reason, rows, table.known_at[rows], start)  # type: ignore[arg-type]


def _still_holds(watermark: datetime, settled: str | None, table: Table) -> bool:
    """The rows that were final when the watermark was set are still what they were."""
    return settled == table.digest(settled_before(watermark))


def chunks(planned: Plan, chunk_rows: int) -> Iterator[slice]:
    """Slices of `planned.rows` of about `chunk_rows`; rows that became known at one moment stay together.

    So that after each slice a moment can be named below which everything is pushed.
    """
    begin, n = 0, len(planned.rows)
    while begin < n:
        end = min(begin + chunk_rows, n)
        end = int(np.searchsorted(planned.known_at, planned.known_at[end - 1], side="right"))
        yield slice(begin, end)
        begin = end


def settled_before(moment: datetime) -> datetime:
    """Up to where rows known before `moment` are final: the state of an open bucket (of at most a day) is not."""
    return from_micros(micros(moment) // DAY * DAY)


def micros(moment: datetime) -> int:
    """Microseconds since 1970 UTC."""
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // (datetime.resolution)


def from_micros(value: int) -> datetime:
    """The inverse of `micros`."""
    return datetime(1970, 1, 1, tzinfo=UTC) + value * datetime.resolution
