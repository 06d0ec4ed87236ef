"""The items a served model can rank: those of its export, and those that were listed since.

An item is a row of `vectors`. Rows of the export never move, so an index means the same item as long as a model is
loaded, however many items are added behind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl

from pipeline.data.sequences import Array
from pipeline.exit_codes import BadConfiguration

ITEMS, VECTORS = "items.parquet", "vectors.npy"


@dataclass(frozen=True)
class ServedCatalogue:
    """Row 0 of everything is padding.

    Attributes:
        item_ids: [m + 1], "" at 0.
        item_index: the inverse of `item_ids`.
        vectors: float32 [m + 1, D], zeros in row 0.
        attributes: [m + 1], of each item.
        popularity: int64 [m + 1], training interactions; 0 for items that were listed since.
    """

    item_ids: Sequence[str]
    item_index: dict[str, int]
    vectors: Array
    attributes: Sequence[Sequence[str]]
    popularity: Array

    @property
    def n_items(self) -> int:
        """Padding not counted."""
        return len(self.item_ids) - 1

    @cached_property
    def by_popularity(self) -> Array:
        """int64 [m], the most popular first; among equals the newest, which have had the least time."""
        return 1 + np.lexsort((-np.arange(self.n_items), -self.popularity[1:]))

    @cached_property
    def _having(self) -> dict[str, Array]:
        rows: dict[str, list[int]] = {}
        for row, attributes in enumerate(self.attributes):
            for attribute in set(attributes):
                rows.setdefault(attribute, []).append(row)
        return {attribute: np.array(having) for attribute, having in rows.items()}

    def without(self, required: Sequence[str]) -> Array:
        """bool [m + 1]: True for items that lack one of these attributes; `blocked` for a filter."""
        lacking = np.zeros(self.n_items + 1, dtype=bool)
        for attribute in required:
            lacks = np.ones(self.n_items + 1, dtype=bool)
            lacks[self._having.get(attribute, np.zeros(0, dtype=np.int64))] = False
            lacking |= lacks
        return lacking

    def in_common(self, one: int, other: int) -> list[str]:
        """The attributes that two items share, in the order of the first."""
        theirs = set(self.attributes[other])
        return [attribute for attribute in self.attributes[one] if attribute in theirs]

    def with_items(
        self, item_ids: Sequence[str], vectors: Array, attributes: Sequence[Sequence[str]]
    ) -> ServedCatalogue:
        """The same and these items behind; an item that is here already keeps its row and what stands there.

        Args:
            item_ids: n ids.
            vectors: float32 [n, D].
            attributes: n lists.

        Raises:
            ValueError: the three are not of one length, or the vectors have another width than the catalogue's.
        """
        if not len(item_ids) == len(vectors) == len(attributes):
            raise ValueError(f"{len(item_ids)} ids, {len(vectors)} vectors and {len(attributes)} attribute lists")
        if len(item_ids) and vectors.shape[1] != self.vectors.shape[1]:
            raise ValueError(f"vectors are {vectors.shape[1]} wide, those of the catalogue {self.vectors.shape[1]}")
        index = dict(self.item_index)
        fresh: list[int] = []
        for row, item in enumerate(item_ids):
            if item not in index:
                index[item] = self.n_items + 1 + len(fresh)
                fresh.append(row)
        if not fresh:
            return self
        return ServedCatalogue(
            [*self.item_ids, *(item_ids[row] for row in fresh)],
            index,
            np.concatenate([self.vectors, np.asarray(vectors, dtype=np.float32)[fresh]]),
            [*self.attributes, *(list(attributes[row]) for row in fresh)],
            np.concatenate([self.popularity, np.zeros(len(fresh), dtype=np.int64)]),
        )


def write_catalogue(
    folder: Path, item_ids: Sequence[str], attributes: Sequence[Sequence[str]], popularity: Array, vectors: Array
) -> None:
    """Write `items.parquet` and `vectors.npy`. Everything has row 0 for padding."""
    items = pl.DataFrame(
        {"item_id": item_ids[1:], "attributes": attributes[1:], "popularity": popularity[1:]},
        schema={"item_id": pl.String, "attributes": pl.List(pl.String), "popularity": pl.Int64},
    )
    items.write_parquet(folder / ITEMS, compression="zstd", statistics=False)
    np.save(folder / VECTORS, np.ascontiguousarray(vectors, dtype=np.float32), allow_pickle=False)


def read_item_ids(folder: Path) -> list[str]:
    """[m + 1], "" at 0; of a folder of any age."""
    return ["", *pl.read_parquet(folder / ITEMS, columns=["item_id"])["item_id"].to_list()]


def read_catalogue(folder: Path) -> ServedCatalogue:
    """The catalogue of the export.

    Raises:
        BadConfiguration: the model was exported before catalogues could grow, or the two files do not fit together.
    """
    items = pl.read_parquet(folder / ITEMS)
    missing = [name for name in ("attributes", "popularity") if name not in items.columns]
    if missing or not (folder / VECTORS).exists():
        raise BadConfiguration(
            f"{folder} holds a model of an earlier format ({', '.join([*missing, VECTORS])} missing): it can rank, "
            "not take new items; run prune again, or promote a newer version"
        )
    vectors = np.load(folder / VECTORS, allow_pickle=False)
    if len(vectors) != items.height + 1:
        raise BadConfiguration(
            f"{folder / VECTORS} has {len(vectors)} rows where {ITEMS} asks for {items.height + 1}; run prune again"
        )
    item_ids = ["", *items["item_id"].to_list()]
    return ServedCatalogue(
        item_ids,
        {item: row for row, item in enumerate(item_ids) if row},
        vectors,
        [[], *(row or [] for row in items["attributes"].to_list())],
        np.concatenate([[0], items["popularity"].to_numpy()]),
    )
