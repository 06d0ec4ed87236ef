"""From ids to indices: items from 1 (0 is padding), users from 0, both in the order of their ids."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from pipeline.data.sequences import DTYPES, Sequences, offsets_of
from pipeline.exit_codes import DataBrokeContract

ORDER = ("user_id", "timestamp", "item_id")


def index_rows(interactions: pl.DataFrame, items: pl.DataFrame, domain: str) -> pl.DataFrame:
    """Add `user_index` and `item_index` (int32) to the interactions of one domain, sorted by user, then time.

    Raises:
        DataBrokeContract: an interaction names an item that is not in the items table.
    """
    numbers = items.select("item_id", item_index=pl.int_range(1, pl.len() + 1, dtype=pl.Int32))
    # A sort of rows that stand in order already would copy every text of them.
    rows = interactions if _in_order(interactions) else interactions.sort(*ORDER, maintain_order=True)
    found = rows.select("item_id").join(numbers, on="item_id", how="left", maintain_order="left")
    unknown = found.filter(pl.col("item_index").is_null())
    if unknown.height:
        raise DataBrokeContract(
            f"{domain}/interactions has {unknown.height:,} rows with an item that {domain}/items does not have,"
            f" e.g. {unknown['item_id'][0]!r}; add the items or let `validate` quarantine the rows"
        )
    return rows.with_columns(item_index=found["item_index"], user_index=pl.col("user_id").rle_id().cast(pl.Int32))


def _in_order(rows: pl.DataFrame) -> bool:
    """Whether no row comes before the one above it in the order of `ORDER`."""
    user, time, item = (pl.col(name) for name in ORDER)
    same_user, same_time = user == user.shift(), time == time.shift()
    later = (time > time.shift()) | (same_time & (item >= item.shift()))
    return bool(rows.select(((user > user.shift()) | (same_user & later)).slice(1).all()).item())


def training_sequences(rows: pl.DataFrame, event_names: Sequence[str]) -> Sequences:
    """The rows whose `part` is "train" as flat arrays.

    Args:
        rows: of `index_rows`, with `part`.
        event_names: of the whole dataset; an event's code is 1 + its position.
    """
    n_users = rows["user_index"].n_unique()
    read = ("user_index", "item_index", "timestamp", "event", "value")
    train = rows.lazy().filter(pl.col("part") == "train").select(read).collect()
    codes = {name: code for code, name in enumerate(event_names, start=1)}
    events = train["event"].replace_strict(codes, default=0, return_dtype=pl.Int16)
    return Sequences(
        offsets=offsets_of(train["user_index"].to_numpy(), n_users),
        items=train["item_index"].to_numpy(),
        times=train["timestamp"].to_physical().to_numpy(),
        events=events.to_numpy(),
        values=train["value"].fill_null(np.nan).to_numpy().astype(DTYPES["values"]),
    )
