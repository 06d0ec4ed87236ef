"""Training sets for benchmarks, straight from tables: no snapshot, no contracts, no Feast, texts hashed unless asked.

Leave-one-out. Users and items have attributes and no point-in-time features, so that a set is written in seconds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from pipeline.data.indexing import index_rows, training_sequences
from pipeline.data.sequences import write_sequences
from pipeline.data.splits import holdout_table, split_leave_one_out
from pipeline.features.encoders import Encoder, Hashing
from pipeline.features.item_vectors import distinct_texts, gathered, text_rows
from pipeline.features.vector_store import VectorStore
from pipeline.features.whitening import fit_whitening, write_whitening
from pipeline.settings import settings
from pipeline.training.randomness import generator

WIDTH = 64  # of text vectors


@dataclass(frozen=True)
class Shop:
    """The tables of one domain.

    Attributes:
        roles: "source", "target" or both.
        interactions: user_id, item_id, timestamp (datetime), event.
        items: item_id, text, attributes.
        users: user_id, attributes; None: nothing is known of users.
        share: of the users who train and validate, drawn; all others are test users only, with their whole history.
    """

    roles: tuple[str, ...]
    interactions: pl.DataFrame
    items: pl.DataFrame
    users: pl.DataFrame | None = None
    share: float = 1.0


def write_training_set(
    root: Path, shops: Mapping[str, Shop], seed: int, encoder: Encoder | None = None, width: int = WIDTH
) -> Path:
    """Write `training/` and `vectors/` under `root`, as the stages read them; returns `root`.

    Args:
        encoder: of the texts; None hashes them.
        width: of the text vectors.
    """
    items = {name: shop.items.sort("item_id") for name, shop in shops.items()}
    events = sorted({event for shop in shops.values() for event in shop.interactions["event"].unique()})
    for name, shop in shops.items():
        _write_shop(root / "training" / name, name, shop, items[name], events, seed)
    _write_vectors(root / "vectors", items, encoder or Hashing(), width)
    roles = {name: list(shop.roles) for name, shop in shops.items()}
    about = {
        "name": "benchmark", "project": "benchmark", "pseudonyms": "public", "clock": "order",
        "protocol": "leave_one_out", "half_life_days": 30.0, "history_length": 50,
        "targets": [name for name, role in roles.items() if "target" in role], "events": events,
        "item_features": [], "profile_features": [],
        "domains": {name: {"role": role, "value_scale": {"mean": 0.0, "spread": 1.0}} for name, role in roles.items()},
    }  # fmt: skip
    (root / "training" / "dataset.json").write_text(json.dumps(about))
    return root


def read_tables(dataset_yaml: Path) -> dict[str, tuple[pl.DataFrame, pl.DataFrame]]:
    """Interactions (with a timestamp, made from the order where there is no clock) and items of every domain."""
    found = {}
    for folder in sorted(path for path in dataset_yaml.parent.iterdir() if path.is_dir()):
        visits, items = (pl.read_parquet(folder / f"{table}.parquet") for table in ("interactions", "items"))
        if "timestamp" not in visits.columns:
            visits = visits.with_columns(timestamp=pl.col("position").cast(pl.Datetime("us", "UTC")))
        found[folder.name] = visits, items
    return found


def _write_shop(folder: Path, name: str, shop: Shop, items: pl.DataFrame, events: Sequence[str], seed: int) -> None:
    visits = shop.interactions
    if "value" not in visits.columns:
        visits = visits.with_columns(value=pl.lit(None, pl.Float32))
    rows = split_leave_one_out(index_rows(visits, items, name))
    users = rows.select("user_id", "user_index").unique(maintain_order=True).sort("user_index")
    kept = generator(seed, "share", name).random(users.height) < shop.share
    known = users.filter(pl.Series(kept))["user_index"]
    chosen = pl.col("user_index").is_in(known.implode())
    # of the users who do not train, all but the test row is history
    rows = rows.with_columns(part=pl.when(chosen | (pl.col("part") == "test")).then("part").otherwise(pl.lit("later")))
    write_sequences(folder / "sequences", training_sequences(rows, events))
    holdout_table(rows, events).write_parquet(folder / "holdout.parquet")
    trained = rows.filter(pl.col("part") == "train")["item_index"].unique()
    numbers = pl.int_range(1, pl.len() + 1, dtype=pl.Int32)
    items = items.with_columns(
        in_training=numbers.is_in(trained.implode()), available_from=pl.lit(None, pl.Datetime("us", "UTC"))
    )
    items.write_parquet(folder / "items.parquet")
    attributes = shop.users if shop.users is not None else users.select("user_id", attributes=pl.lit([]))
    told = users.join(attributes.select("user_id", pl.col("attributes").cast(pl.List(pl.String))), "user_id", "left")
    told.select("user_id", "attributes").write_parquet(folder / "users.parquet")


def _write_vectors(folder: Path, items: Mapping[str, pl.DataFrame], encoder: Encoder, width: int) -> None:
    texts = distinct_texts(items)
    raw, _ = VectorStore(settings().home / "stores" / "item_vectors.sqlite").vectors_of(texts, encoder)
    whitening = fit_whitening(raw, width)
    white = whitening(raw)
    for name, table in items.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        np.save(folder / name / "text.npy", gathered(white, text_rows(table, texts)))
    write_whitening(folder, whitening)
    about = {"encoder": encoder.identity, "modalities": {"text": width}}
    (folder / "vectors.json").write_text(json.dumps(about))
