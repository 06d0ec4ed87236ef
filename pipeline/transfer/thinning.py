"""A training set with less in it: a target of few users, or with items that nobody has taken yet.

Test rows stay as they are, so that every share is judged on the same users.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import polars as pl

from pipeline.data.sequences import Array, Sequences, offsets_of, write_sequences
from pipeline.data.training_set import load_dataset, load_domain
from pipeline.exit_codes import BadConfiguration
from pipeline.training.randomness import generator


def few_users(training: Path, out: Path, target: str, share: float, seed: int) -> Path:
    """A copy in which a share of the target's users trains and validates; returns `out`.

    Statistics of its items count all users, so they are set to zero.

    Raises:
        BadConfiguration: the dataset has no such domain, or the share leaves no user with training interactions.
    """
    sequences = _copied(training, out, target)
    kept = generator(seed, "few users", target).random(sequences.n_users) < share
    rows = np.repeat(kept, sequences.lengths)
    if not rows.any():
        n_users = int((sequences.lengths > 0).sum())
        raise BadConfiguration(
            f"a share of {share:g} leaves none of the {n_users:,} users of {target} who have training interactions"
        )
    _write(out, target, sequences, rows)
    folder = out / target
    held = pl.read_parquet(folder / "holdout.parquet")
    known = pl.Series(kept[held["user_index"].to_numpy()])
    held.filter((pl.col("split") == "test") | known).write_parquet(folder / "holdout.parquet")
    names = load_dataset(training)["item_features"]
    items = pl.read_parquet(folder / "items.parquet")
    items.with_columns(pl.lit(0.0, pl.Float32).alias(name) for name in names).write_parquet(folder / "items.parquet")
    return out


def without_items(training: Path, out: Path, target: str, share: float, seed: int) -> Path:
    """A copy in which a share of the target's items is in no training sequence; returns `out`.

    Raises:
        BadConfiguration: the dataset has no such domain.
    """
    sequences = _copied(training, out, target)
    n_items = pl.scan_parquet(out / target / "items.parquet").select(pl.len()).collect().item()
    new = np.zeros(n_items + 1, dtype=bool)
    new[1 + generator(seed, "new items", target).choice(n_items, round(share * n_items), replace=False)] = True
    _write(out, target, sequences, ~new[np.asarray(sequences.items)])
    return out


def _copied(training: Path, out: Path, target: str) -> Sequences:
    sequences = load_domain(training, target).sequences
    shutil.copytree(training, out)
    return sequences


def _write(out: Path, target: str, sequences: Sequences, kept: Array) -> None:
    """Keep some interactions, and tell anew which items have any."""
    folder = out / target
    users = np.repeat(np.arange(sequences.n_users), np.diff(sequences.offsets))[kept]
    columns = ("items", "times", "events", "values")
    fewer = {name: np.asarray(getattr(sequences, name))[kept] for name in columns}
    shutil.rmtree(folder / "sequences")
    write_sequences(folder / "sequences", Sequences(offsets_of(users, sequences.n_users), **fewer))
    items = pl.read_parquet(folder / "items.parquet")
    trained = np.bincount(fewer["items"], minlength=items.height + 1) > 0
    items.with_columns(in_training=pl.Series(trained[1:])).write_parquet(folder / "items.parquet")
    held = pl.read_parquet(folder / "holdout.parquet")
    slices = np.where(trained[held["item_index"].to_numpy()], "warm", "cold")
    held.with_columns(item_slice=pl.Series(slices, dtype=pl.String)).write_parquet(folder / "holdout.parquet")
