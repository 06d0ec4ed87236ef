"""The last N interactions of a user in a domain, one state a bucket (a day): what serving reads.

The states of a user overlap, so the table has up to N elements a row. It is made and written in blocks of users:
memory stays bounded however many interactions there are.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from pipeline.features.knowledge import bucket, in_knowledge_order, last_of

BLOCK_INTERACTIONS = 250_000
MOMENT = pa.timestamp("us", tz="UTC")
SCHEMA = pa.schema(
    [
        ("user_id", pa.string()),
        ("domain", pa.string()),
        ("item_ids", pa.list_(pa.string())),
        ("times", pa.list_(pa.int64())),  # microseconds UTC
        ("event_timestamp", MOMENT),
        ("created_timestamp", MOMENT),
    ]
)
Ints = npt.NDArray[np.int64]


def user_history(
    interactions: pl.DataFrame, domain: str, length: int, width: int, block: int = BLOCK_INTERACTIONS
) -> Iterator[pa.Table]:
    """States of (user, domain) as tables of `SCHEMA`, user by user.

    Args:
        interactions: of one domain.
        domain: its name.
        length: interactions kept, the newest by (timestamp, item id); the lists are chronological.
        width: bucket width, microseconds.
        block: interactions worked on at a time.
    """
    rows = in_knowledge_order(interactions, "user_id").with_columns(
        user=pl.col("user_id").rle_id().cast(pl.Int64),
        is_state=last_of("user_id", moment=bucket(width)),
        item_rank=pl.col("item_id").rank("dense").cast(pl.Int64),
    )
    starts = np.flatnonzero(np.diff(rows["user"].to_numpy(), prepend=-1))
    while len(starts):
        begin = int(starts[0])
        after = starts[starts >= begin + block]
        end = int(after[0]) if len(after) else rows.height
        yield _states(rows.slice(begin, end - begin), domain, length)
        starts = after


def _states(rows: pl.DataFrame, domain: str, length: int) -> pa.Table:
    """The states of whole users, given their interactions in knowledge order."""
    user = rows["user"].to_numpy()
    times = rows["timestamp"].to_physical().to_numpy()
    ranks = rows["item_rank"].to_numpy()
    first_of_user = np.searchsorted(user, user, side="left")
    states = np.flatnonzero(rows["is_state"].to_numpy())
    sizes = np.minimum(states - first_of_user[states] + 1, length)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    # in order of arrival the window of a state is simply the rows up to it
    places = np.arange(offsets[-1]) - np.repeat(offsets[1:] - states - 1, sizes)
    for first, last in _disordered_users(user, times, ranks):
        _reorder(places, offsets, states, times, ranks, first, last, length)
    item_ids = rows["item_id"].to_arrow().cast(pa.string()).take(pa.array(places))
    newest = rows.select(pl.col("timestamp").cum_max().over("user")).to_series()
    bounds = pa.array(offsets, pa.int32())
    return pa.table(
        {
            "user_id": rows["user_id"].gather(states).to_arrow().cast(pa.string()),
            "domain": pa.repeat(pa.scalar(domain, pa.string()), len(states)),
            "item_ids": pa.ListArray.from_arrays(bounds, item_ids),
            "times": pa.ListArray.from_arrays(bounds, pa.array(times[places])),
            "event_timestamp": newest.gather(states).to_arrow(),
            "created_timestamp": rows["known_at"].gather(states).to_arrow(),
        },
        schema=SCHEMA,
    )


def _disordered_users(user: Ints, times: Ints, ranks: Ints) -> Iterator[tuple[int, int]]:
    """First row and row after the last of each user to whom something late arrived."""
    earlier = (np.diff(times) < 0) | ((np.diff(times) == 0) & (np.diff(ranks) < 0))
    late = np.unique(user[1:][earlier & (np.diff(user) == 0)])
    yield from zip(
        np.searchsorted(user, late, side="left").tolist(),
        np.searchsorted(user, late, side="right").tolist(),
        strict=True,
    )


def _reorder(
    places: npt.NDArray[Any],
    offsets: Ints,
    states: Ints,
    times: Ints,
    ranks: Ints,
    first: int,
    last: int,
    length: int,
) -> None:
    """Rewrite the windows of one user who received late rows: the newest `length` of what was known."""
    known: list[tuple[int, int, int]] = []
    state = int(np.searchsorted(states, first))
    for row in range(first, last):
        insort(known, (int(times[row]), int(ranks[row]), row))
        if state < len(states) and states[state] == row:
            places[offsets[state] : offsets[state + 1]] = [place for _, _, place in known[-length:]]
            state += 1
