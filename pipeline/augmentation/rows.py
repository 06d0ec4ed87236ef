"""Sequences beside the real ones, and the file of those that feed the fine-tuning: its own, and every row is marked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from pipeline.data.sequences import Array
from pipeline.data.training_set import DomainData
from pipeline.exit_codes import BadConfiguration

FILE = "synthetic.parquet"


@dataclass(frozen=True)
class Rows:
    """Sequences beside the real ones.

    Attributes:
        offsets: int64 [n + 1] into `items`.
        items: int64, item indices, never 0.
        users: int64 [n], the user each is made for; his profile opens it.
        made: bool, parallel to `items`: False where the item was given (a user's own interaction, or the item to
            arrive at).
    """

    offsets: Array
    items: Array
    users: Array
    made: Array

    def __len__(self) -> int:
        return len(self.users)

    def head(self, count: int) -> Rows:
        """The first `count` sequences."""
        stop = int(self.offsets[min(count, len(self))])
        return Rows(self.offsets[: count + 1], self.items[:stop], self.users[:count], self.made[:stop])

    @classmethod
    def of(cls, items: Array, users: Array, made: Array) -> Rows:
        """From left-aligned rows [n, L], 0 after the last item; empty rows are left out."""
        lengths = (items > 0).sum(1)
        there = lengths > 0
        offsets = np.concatenate([[0], np.cumsum(lengths[there])]).astype(np.int64)
        return cls(offsets, items[items > 0].astype(np.int64), users[there].astype(np.int64), made[items > 0])

    def padded(self) -> Array:
        """int64 [n, longest], left-aligned, 0 after the last item."""
        lengths = np.diff(self.offsets)
        padded = np.zeros((len(self), int(lengths.max(initial=0))), dtype=np.int64)
        padded[np.arange(padded.shape[1])[None] < lengths[:, None]] = self.items
        return padded


def joined(*parts: Rows) -> Rows:
    """One after the other."""
    lengths = np.concatenate([np.diff(part.offsets) for part in parts])
    return Rows(
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        np.concatenate([part.items for part in parts]),
        np.concatenate([part.users for part in parts]),
        np.concatenate([part.made for part in parts]),
    )


def write_rows(folder: Path, rows: Rows) -> None:
    """Write `synthetic.parquet`: one row an interaction, each with `synthetic` true."""
    lengths = np.diff(rows.offsets)
    table = pl.DataFrame(
        {
            "sequence": np.repeat(np.arange(len(rows)), lengths).astype(np.int32),
            "user_index": np.repeat(rows.users, lengths).astype(np.int32),
            "item_index": rows.items.astype(np.int32),
            "made": rows.made.astype(bool),
            "synthetic": np.ones(len(rows.items), dtype=bool),
        }
    )
    table.write_parquet(folder / FILE, compression="zstd", statistics=False)


def read_rows(folder: Path, data: DomainData) -> Rows | None:
    """What `write_rows` wrote; None where nothing was fed in.

    Raises:
        BadConfiguration: the rows are of another training set, or not marked.
    """
    if not (folder / FILE).exists():
        return None
    table = pl.read_parquet(folder / FILE)
    rows = Rows(
        np.concatenate([[0], np.cumsum(table["sequence"].rle().struct.field("len").to_numpy())]).astype(np.int64),
        table["item_index"].to_numpy().astype(np.int64),
        table.group_by("sequence", maintain_order=True).first()["user_index"].to_numpy().astype(np.int64),
        table["made"].to_numpy(),
    )
    fits = not len(rows) or (rows.items.max() <= data.n_items and rows.users.max() < data.n_users)
    if not fits or not table["synthetic"].all():
        raise BadConfiguration(
            f"{folder / FILE} names items or users that {data.name} does not have, or rows that are not marked as "
            "synthetic; run augment again on this training set"
        )
    return rows
