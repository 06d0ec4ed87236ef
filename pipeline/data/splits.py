"""What a model may learn from, and what it is judged on.

* `temporal`: two moments cut the whole dataset. Everything before the first trains; each user's first
  interaction after it validates, each user's first interaction after the second tests. Nothing that trains is
  younger than anything that judges, in any domain.
* `leave_one_out`: each user's last interaction tests, the last but one validates, the rest trains; a user
  with fewer than three only trains. The protocol of most papers. Where the data has an order but no clock,
  the same person's rows in another domain may come from the future: `drop_overlap` leaves them out.

Either way a held-out row is ranked with the user's whole earlier history in its domain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
import polars.selectors as cs

Protocol = Literal["temporal", "leave_one_out"]
DropOverlap = Literal["auto", "always", "never"]

HISTORY = ("history", "history_times", "history_events", "history_values")  # of a held-out row, side by side
FEW = 5  # a user with 1 to FEW earlier interactions is a "few", with none a "cold" user
MICROSECOND = 1


@dataclass(frozen=True)
class Cuts:
    """The two moments of the temporal protocol, microseconds UTC: training < validation <= … < test <= …"""

    validation: int
    test: int


def temporal_cuts(domains: Mapping[str, pl.DataFrame], validation_share: float, test_share: float) -> Cuts | None:
    """Cut the time range of all domains together; None where there is no interaction at all.

    Args:
        domains: interactions by domain.
        validation_share: share of the range between the two cuts, 0 to 1.
        test_share: share of the range after the second cut, 0 to 1.
    """
    times = [frame["timestamp"].to_physical() for frame in domains.values() if frame.height]
    if not times:
        return None
    first = min(int(series.min()) for series in times)  # type: ignore[arg-type]
    end = max(int(series.max()) for series in times) + MICROSECOND  # type: ignore[arg-type]
    test = end - round((end - first) * test_share)
    return Cuts(validation=test - round((end - first) * validation_share), test=test)


def split_temporal(interactions: pl.DataFrame, cuts: Cuts) -> pl.DataFrame:
    """Name the part of every row of one domain.

    Args:
        interactions: sorted by user, then time.

    Returns:
        The rows in the same order with `part`: "train", "validation", "test", or "later" for what a user did
        after the held-out row of its period (history of a later row, never a target).
    """
    time = pl.col("timestamp").to_physical()
    period = (
        pl.when(time < cuts.validation)
        .then(pl.lit("train"))
        .when(time < cuts.test)
        .then(pl.lit("validation"))
        .otherwise(pl.lit("test"))
    )
    first_of_period = pl.int_range(pl.len()).over("user_id", "part") == 0
    held_out = (pl.col("part") == "train") | first_of_period
    return interactions.with_columns(part=period).with_columns(
        part=pl.when(held_out).then("part").otherwise(pl.lit("later"))
    )


def split_leave_one_out(interactions: pl.DataFrame) -> pl.DataFrame:
    """As `split_temporal`, for the leave-one-out protocol; "later" does not occur."""
    user = pl.col("user_id")
    last = (user != user.shift(-1)).fill_null(True)
    last_but_one = (user == user.shift(-1)) & (user != user.shift(-2)).fill_null(True)
    # a user with three interactions has two more above each of the last two that are judged
    enough = (pl.when(last).then(user == user.shift(2)).otherwise(user == user.shift(1))).fill_null(False)
    return interactions.with_columns(
        part=pl.when(enough & last)
        .then(pl.lit("test"))
        .when(enough & last_but_one)
        .then(pl.lit("validation"))
        .otherwise(pl.lit("train"))
    )


def drop_overlapping_users(
    domains: Mapping[str, pl.DataFrame],
    roles: Mapping[str, list[str]],
    when: DropOverlap,
    protocol: Protocol,
    clock: str,
) -> dict[str, pl.DataFrame]:
    """Leave the users of any target out of the domains that are only sources.

    "auto" does so where it must: leave-one-out on data whose timestamps are made from an order, so that they
    say nothing of what came first across domains. Else a model would learn a user's future from a source.
    """
    if when == "never" or (when == "auto" and not (protocol == "leave_one_out" and clock == "order")):
        return dict(domains)
    targets = [frame.select("user_id") for name, frame in domains.items() if "target" in roles[name]]
    if not targets:
        return dict(domains)
    known = pl.concat(targets).unique()
    return {
        name: frame if "target" in roles[name] else frame.join(known, on="user_id", how="anti", maintain_order="left")
        for name, frame in domains.items()
    }


def holdout_table(rows: pl.DataFrame, event_names: Sequence[str]) -> pl.DataFrame:
    """The held-out rows of one domain, each with the user's earlier history.

    Args:
        rows: every interaction of the domain sorted by user, then time, with `part`, `user_index` and
            `item_index`.
        event_names: of the whole dataset; an event's code is 1 + its position.

    Returns:
        user_index, split, item_index, timestamp, history, history_times (microseconds), history_events (codes),
        history_values (NaN where there is none), user_slice, item_slice and, where the data knows it, oracle_rank;
        sorted by split and user.
    """
    warm_items = rows.filter(pl.col("part") == "train")["item_index"].unique()
    codes = {name: code for code, name in enumerate(event_names, start=1)}
    # without the ids, whose texts are most of a row's bytes
    rows = rows.select(
        "user_index",
        "item_index",
        "timestamp",
        "part",
        cs.by_name("oracle_rank", require_all=False),
        place=pl.int_range(pl.len(), dtype=pl.Int64).over("user_index"),
        event=pl.col("event").replace_strict(codes, default=0, return_dtype=pl.Int16),
        value=pl.col("value").fill_null(np.nan).cast(pl.Float32),
    )
    held_out = rows.filter(pl.col("part").is_in(["validation", "test"]))
    # one list a user, then cut at the place of the held-out row: no join of rows with rows
    whole = (
        rows.join(held_out.select("user_index").unique(), on="user_index", how="semi")
        .group_by("user_index", maintain_order=True)
        .agg(
            history="item_index",
            history_times=pl.col("timestamp").to_physical(),
            history_events="event",
            history_values="value",
        )
    )
    slices = (
        pl.when(pl.col("place") == 0)
        .then(pl.lit("cold"))
        .when(pl.col("place") <= FEW)
        .then(pl.lit("few"))
        .otherwise(pl.lit("warm"))
    )
    table = held_out.join(whole, on="user_index", how="left").select(
        "user_index",
        split="part",
        item_index="item_index",
        timestamp="timestamp",
        **{name: pl.col(name).list.head(pl.col("place")) for name in HISTORY},
        user_slice=slices,
        item_slice=pl.when(pl.col("item_index").is_in(warm_items.implode()))
        .then(pl.lit("warm"))
        .otherwise(pl.lit("cold")),
        **({"oracle_rank": pl.col("oracle_rank").fill_null(0)} if "oracle_rank" in rows.columns else {}),
    )
    return table.sort("split", "user_index")
