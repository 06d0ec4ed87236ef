"""Broken rows on demand: every kind that the contracts know, injected into a clean world.

Row kinds add copies of clean rows with exactly one thing broken, so that what is left after quarantine is the clean
world again, row for row. Table kinds break the first market so that the run must stop. Copies are made of rows that are
known by the end of the world; with an earlier `as_of` the snapshot takes its share of the dirt as of everything else.
A timestamp at or after `as_of` (`after_as_of`) is no fault of the data: the snapshot leaves the row out.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

from pipeline.data.schema import TableName
from pipeline.data.world.params import END, TABLE_KINDS

Tables = dict[TableName, pl.DataFrame]
Rows = pl.DataFrame
VECTOR = "image_vector"  # the modality that the vector kinds bring along
WIDTH = 4


def _set(column: str, value: object) -> Callable[[Rows], Rows]:
    return lambda rows: rows.with_columns(pl.lit(value).cast(rows.schema[column]).alias(column))


def _too_long(column: str) -> Callable[[Rows], Rows]:
    return lambda rows: rows.with_columns(pl.col(column) + "-" + "x" * 300)


def _not_finite(rows: Rows) -> Rows:
    odd = np.resize([np.nan, np.inf, -np.inf], len(rows)).astype(np.float32)
    return rows.with_columns(value=pl.Series(odd))


# kind -> the table and what is done to copies of its rows
SPOIL: dict[str, tuple[TableName, Callable[[Rows], Rows]]] = {
    "missing_user": ("interactions", _set("user_id", None)),
    "blank_user": ("interactions", _set("user_id", "  ")),
    "too_long_user": ("interactions", _too_long("user_id")),
    "missing_item": ("interactions", _set("item_id", None)),
    "blank_item": ("interactions", _set("item_id", "\t ")),
    "too_long_item": ("interactions", _too_long("item_id")),
    "missing_timestamp": ("interactions", _set("timestamp", None)),
    "absurd_timestamp": ("interactions", _set("timestamp", datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC))),
    "created_before_timestamp": (
        "interactions",
        lambda rows: rows.with_columns(created_at=pl.col("timestamp") - pl.duration(days=1)),
    ),
    "unknown_event": ("interactions", _set("event", "teleport")),
    "value_not_finite": ("interactions", _not_finite),
    "value_out_of_range": ("interactions", _set("value", 1e12)),
    "duplicate_interaction": ("interactions", lambda rows: rows),
    "after_as_of": ("interactions", lambda rows: _moved(rows, timedelta(days=366))),
    "item_without_id": ("items", _set("item_id", None)),
    "item_with_blank_id": ("items", _set("item_id", " ")),
    "item_with_too_long_id": ("items", _too_long("item_id")),
    "user_without_id": ("users", _set("user_id", None)),
    "user_with_blank_id": ("users", _set("user_id", " ")),
    "user_with_too_long_id": ("users", _too_long("user_id")),
    "duplicate_item": ("items", _set("text", "the same item again")),
    "duplicate_user": ("users", _set("attributes", [])),
    "unknown_item": ("interactions", _set("item_id", "an item of nowhere")),
}


def _moved(rows: Rows, by: timedelta) -> Rows:
    return rows.with_columns(pl.col("timestamp", "created_at") + by)


def soil(markets: dict[str, Tables], shares: dict[str, float], seed: int) -> dict[str, Tables]:
    """The markets with dirt in them.

    Args:
        markets: clean canonical tables, by market.
        shares: kind -> share of the table's rows to add (row kinds) or to break; at least one row.
    """
    dirty: dict[str, Tables] = {}
    for number, (name, tables) in enumerate(markets.items()):
        rng = np.random.default_rng([seed, 0xD127, number])
        kinds = {kind: share for kind, share in shares.items() if number == 0 or kind not in TABLE_KINDS}
        dirty[name] = _soil_market(dict(tables), kinds, rng)
    return dirty


def _soil_market(tables: Tables, shares: dict[str, float], rng: np.random.Generator) -> Tables:
    clean = dict(tables)
    for kind, share in shares.items():
        if kind in SPOIL:
            table, spoil = SPOIL[kind]
            rows = clean[table]
            if "created_at" in rows.columns:
                rows = rows.filter(pl.col("created_at") < END)  # a copy that nobody knows of yet is no dirt
            tables[table] = pl.concat([tables[table], spoil(_some(rows, share, rng))])
        elif kind == "missing_column":
            tables["interactions"] = tables["interactions"].drop("item_id")
        elif kind == "wrong_type":
            tables["interactions"] = tables["interactions"].with_columns(value=pl.lit("a lot"))
        elif kind == "empty_source":
            tables["interactions"] = tables["interactions"].clear()
        elif kind == "no_items":
            tables["items"] = tables["items"].clear()
        else:
            tables["items"] = _with_broken_vectors(tables["items"], kind, share, rng)
    return tables


def _some(rows: Rows, share: float, rng: np.random.Generator) -> Rows:
    count = min(len(rows), max(1, round(share * len(rows))))
    return rows[np.sort(rng.choice(len(rows), count, replace=False))]


def _with_broken_vectors(items: Rows, kind: str, share: float, rng: np.random.Generator) -> Rows:
    vectors = [row.tolist() for row in rng.normal(size=(len(items), WIDTH))]
    for item in rng.choice(len(items), max(1, round(share * len(items))), replace=False):
        vectors[item] = vectors[item][:-1] + ([float("nan")] if kind == "vector_not_finite" else [])
    return items.with_columns(pl.Series(VECTOR, vectors, dtype=pl.List(pl.Float32)))
