"""Read `data/training`, what every model trains and is judged on.

    data = load_domain(Path("data/training"), "harbour")
    data.sequences.items, data.item_features, data.holdout("test").history(0)

Item indices run from 1 to n_items; row 0 of every item table is padding. User indices run from 0.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from pipeline.data.sequences import Array, Sequences, load_sequences
from pipeline.exit_codes import BadConfiguration

SPLITS = ("validation", "test")


@dataclass(frozen=True)
class Holdout:
    """The held-out interactions of one split: one row a user, users ascending.

    Attributes:
        user_index: int32 [n].
        item_index: int32 [n], the item to be found.
        timestamp: int64 [n], microseconds UTC.
        history_offsets: int64 [n + 1] into `history_items` and `history_times`.
        history_items: int32, everything the user did earlier in this domain, chronological (the validation
            item is part of the history of a test row).
        history_times: int64, microseconds UTC.
        user_slice: str [n], "cold" (no history), "few" (1 to 5) or "warm".
        item_slice: str [n], "cold" where the item has no training interaction, else "warm".
        oracle_rank: int32 [n], rank of the item under a synthetic world's known truth; None for real data.
        history_events: int16, codes as in the sequences, 0 = unknown; None where all are unknown.
        history_values: float32, NaN where the source gave none; None likewise.
    """

    split: str
    user_index: Array
    item_index: Array
    timestamp: Array
    history_offsets: Array
    history_items: Array
    history_times: Array
    user_slice: Array
    item_slice: Array
    oracle_rank: Array | None
    history_events: Array | None = None
    history_values: Array | None = None

    def __len__(self) -> int:
        return len(self.user_index)

    def history(self, row: int) -> tuple[Array, Array]:
        """Items and times before row `row`, chronological, both [length]."""
        span = slice(int(self.history_offsets[row]), int(self.history_offsets[row + 1]))
        return self.history_items[span], self.history_times[span]

    @property
    def history_lengths(self) -> Array:
        """int64 [n]."""
        return np.diff(self.history_offsets)


@dataclass(frozen=True)
class DomainData:
    """Everything known of one domain; item indices run from 1, so row 0 of item tables is padding."""

    name: str
    role: tuple[str, ...]  # "source", "target" or both
    protocol: str  # "temporal" or "leave_one_out"
    folder: Path
    event_names: tuple[str, ...]  # event code c is event_names[c - 1]
    item_feature_names: tuple[str, ...]
    profile_feature_names: tuple[str, ...]
    sequences: Sequences

    @property
    def offsets(self) -> Array:
        """int64 [n_users + 1]."""
        return self.sequences.offsets

    @property
    def items(self) -> Array:
        """int32 [n_interactions]."""
        return self.sequences.items

    @property
    def times(self) -> Array:
        """int64 [n_interactions], microseconds UTC."""
        return self.sequences.times

    @property
    def events(self) -> Array:
        """int16 [n_interactions], 0 is padding."""
        return self.sequences.events

    @property
    def values(self) -> Array:
        """float32 [n_interactions], NaN where unknown."""
        return self.sequences.values

    @cached_property
    def value_scale(self) -> tuple[float, float]:
        """Mean and spread of the values of training interactions."""
        scale = load_dataset(self.folder.parent)["domains"][self.name]["value_scale"]
        return float(scale["mean"]), float(scale["spread"])

    @property
    def n_items(self) -> int:
        """Items of the catalogue, cold ones included, padding not."""
        return self._items.height

    @property
    def n_users(self) -> int:
        """Users of the domain, held-out only ones included."""
        return self.sequences.n_users

    @cached_property
    def _items(self) -> pl.DataFrame:
        return pl.read_parquet(self.folder / "items.parquet")

    @cached_property
    def _users(self) -> pl.DataFrame:
        return pl.read_parquet(self.folder / "users.parquet")

    @cached_property
    def _holdout(self) -> pl.DataFrame:
        return pl.read_parquet(self.folder / "holdout.parquet")

    @cached_property
    def item_ids(self) -> list[str]:
        """[n_items + 1], "" at 0."""
        return ["", *self._items["item_id"].to_list()]

    @cached_property
    def item_texts(self) -> list[str | None]:
        """[n_items + 1], None at 0 and where an item has no text."""
        return [None, *self._items["text"].to_list()]

    @cached_property
    def item_attributes(self) -> list[list[str]]:
        """[n_items + 1], empty at 0."""
        return [[], *(row or [] for row in self._items["attributes"].to_list())]

    @cached_property
    def item_features(self) -> Array:
        """float32 [n_items + 1, F], zeros in row 0."""
        return _matrix(self._items, self.item_feature_names, padding_rows=1)

    @cached_property
    def in_training(self) -> Array:
        """bool [n_items + 1]: the item has at least one training interaction; False at 0."""
        return np.concatenate([[False], self._items["in_training"].to_numpy()])

    @cached_property
    def available_from(self) -> Array:
        """int64 [n_items + 1], microseconds UTC, the smallest int64 where unknown or padding."""
        unknown = np.iinfo(np.int64).min
        times = self._items["available_from"].to_physical().fill_null(unknown).to_numpy()
        return np.concatenate([[unknown], times])

    @cached_property
    def user_ids(self) -> list[str]:
        """[n_users]."""
        return self._users["user_id"].to_list()

    @cached_property
    def user_attributes(self) -> list[list[str]]:
        """[n_users]."""
        return [row or [] for row in self._users["attributes"].to_list()]

    @cached_property
    def profile_features(self) -> Array:
        """float32 [n_users, P], as known when the user's sequence in this domain begins."""
        return _matrix(self._users, self.profile_feature_names)

    def holdout(self, split: str) -> Holdout:
        """The held-out rows of "validation" or "test"; empty where a domain has none."""
        if split not in SPLITS:
            raise ValueError(f"split is {split!r}; it must be one of {', '.join(SPLITS)}")
        rows = self._holdout.filter(pl.col("split") == split).sort("user_index")
        lengths = rows["history"].list.len().fill_null(0).to_numpy()
        return Holdout(
            split=split,
            user_index=rows["user_index"].to_numpy(),
            item_index=rows["item_index"].to_numpy(),
            timestamp=rows["timestamp"].to_physical().to_numpy(),
            history_offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            history_items=_flat(rows["history"], np.int32),
            history_times=_flat(rows["history_times"], np.int64),
            user_slice=rows["user_slice"].to_numpy().astype(str),
            item_slice=rows["item_slice"].to_numpy().astype(str),
            oracle_rank=rows["oracle_rank"].to_numpy() if "oracle_rank" in rows.columns else None,
            history_events=_flat(rows["history_events"], np.int16) if "history_events" in rows.columns else None,
            history_values=_flat(rows["history_values"], np.float32) if "history_values" in rows.columns else None,
        )


def load_dataset(training_dir: Path) -> dict[str, Any]:
    """The dataset's own description: name, clock, protocol, domains, targets, events, feature names."""
    return json.loads((training_dir / "dataset.json").read_text("utf-8"))


def load_domain(training_dir: Path, domain: str) -> DomainData:
    """Open one domain; tables are read when first used, sequences are memory-mapped.

    Raises:
        BadConfiguration: the dataset has no such domain.
        FileNotFoundError: the folder is not a finished `data/training`.
    """
    dataset = load_dataset(training_dir)
    if domain not in dataset["domains"]:
        raise BadConfiguration(f"{training_dir} has no domain {domain!r}; it has {', '.join(dataset['domains'])}")
    about = dataset["domains"][domain]
    folder = training_dir / domain
    return DomainData(
        name=domain,
        role=tuple(about["role"]),
        protocol=dataset["protocol"],
        folder=folder,
        event_names=tuple(dataset["events"]),
        item_feature_names=tuple(dataset["item_features"]),
        profile_feature_names=tuple(dataset["profile_features"]),
        sequences=load_sequences(folder / "sequences"),
    )


def _matrix(table: pl.DataFrame, columns: tuple[str, ...], padding_rows: int = 0) -> Array:
    """float32 [padding_rows + rows, columns], C-contiguous."""
    matrix = np.zeros((padding_rows + table.height, len(columns)), dtype=np.float32)
    for column, name in enumerate(columns):
        matrix[padding_rows:, column] = table[name].to_numpy()
    return matrix


def _flat(lists: pl.Series, dtype: type) -> Array:
    """The concatenated elements of a list column; a null or empty list adds nothing."""
    return lists.drop_nulls().list.explode(keep_nulls=False, empty_as_null=False).to_numpy().astype(dtype)
