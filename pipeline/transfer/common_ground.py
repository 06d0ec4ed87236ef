"""What a target has in common with the sources of its backbone: without any of it, there is nothing to transfer.

A backbone reads an item by its content vectors and attributes and a user by attributes. Where the target has none that
a source has too, every item looks alike to it, and the habits that it brings are habits among other things.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from pipeline.data.training_set import load_dataset
from pipeline.models.spec import ModelSpec


def shares_nothing(training: Path, item_vectors: Path, target: str, spec: ModelSpec) -> str:
    """A sentence for a target that has nothing in common with a backbone's sources; else, or of itself, empty.

    Args:
        training, item_vectors: as the stages write them.
        spec: of the backbone; sources that are not in `training` are not asked.
    """
    there = load_dataset(training)["domains"]
    sources = [name for name in spec.domain_names if name in there]
    if not sources or target in sources or common_ground(training, item_vectors, target, sources):
        return ""
    return f"{target} shares nothing with {', '.join(sources)}, no content vector, no attribute of an item or a user"


def common_ground(training: Path, item_vectors: Path, target: str, sources: Sequence[str]) -> list[str]:
    """What the target shares with any of the sources, in words; empty where it shares nothing.

    Args:
        training, item_vectors: as the stages write them.
        sources: domains of `training`, the target not among them.
    """
    found = []
    names = sorted({path.stem for path in (item_vectors / target).glob("*.npy")})
    for name in names:
        if _any_vector(item_vectors, target, name) and any(_any_vector(item_vectors, one, name) for one in sources):
            found.append(f"{name} vectors")
    for table, whose in (("items", "items"), ("users", "users")):
        own = _words(training / target / f"{table}.parquet")
        shared = own & set().union(*(_words(training / one / f"{table}.parquet") for one in sources))
        if shared:
            found.append(f"{len(shared):,} attributes of {whose}")
    return found


def _any_vector(item_vectors: Path, domain: str, name: str) -> bool:
    path = item_vectors / domain / f"{name}.npy"
    return path.exists() and bool(np.load(path, mmap_mode="r", allow_pickle=False).any())


def _words(table: Path) -> set[str]:
    column = pl.read_parquet(table, columns=["attributes"])["attributes"]
    return set(column.drop_nulls().list.explode(keep_nulls=False, empty_as_null=False).unique().to_list())
