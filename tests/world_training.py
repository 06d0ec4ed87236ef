"""Markets of the synthetic world as `data/training` and `data/item_vectors`, and what is true of their items.

Without snapshot, contracts and Feast: users and items have no features, texts are hashed. What is left is what the
truth is about: topics, tastes and what follows what.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from pipeline.data.indexing import index_rows, training_sequences
from pipeline.data.sequences import Array, write_sequences
from pipeline.data.splits import holdout_table, split_leave_one_out
from pipeline.data.world.generate import World, generate
from pipeline.data.world.params import WorldParams
from pipeline.features.encoders import Hashing
from pipeline.features.item_vectors import distinct_texts, gathered, text_rows
from pipeline.features.whitening import fit_whitening, write_whitening

WIDTH = 64


@dataclass(frozen=True)
class KnownWorld:
    """A training set and its truth.

    Attributes:
        root: holds `training/` and `vectors/`, as `tests.training_data.Chain` wants it.
        topic: int [n_items + 1], the true topic of every item of the target, -1 at 0.
        transition: [K, K], row k: where a user goes after topic k.
    """

    root: Path
    topic: Array
    transition: Array


def write_known_world(root: Path, source: str, target: str, size: str = "tiny", seed: int = 7) -> KnownWorld:
    """Write a source and a target market of the world; they may be the same."""
    world = generate(WorldParams.model_validate({"size": size}), seed)
    roles = {name: [role for role, of in (("source", source), ("target", target)) if of == name]
             for name in dict.fromkeys((source, target))}  # fmt: skip
    items = {name: world.markets[name].items.sort("item_id") for name in roles}
    events = sorted({event for name in roles for event in world.markets[name].interactions["event"].unique()})
    for name in roles:
        _write_market(root / "training" / name, world, name, items[name], events)
    _write_vectors(root / "vectors", items)
    about = {
        "name": "world", "project": "world", "pseudonyms": "public", "clock": "real", "protocol": "leave_one_out",
        "half_life_days": 30.0, "history_length": 50, "targets": [target], "events": events,
        "item_features": [], "profile_features": [],
        "domains": {name: {"role": role, "value_scale": {"mean": 0.0, "spread": 1.0}} for name, role in roles.items()},
    }  # fmt: skip
    (root / "training" / "dataset.json").write_text(json.dumps(about))
    market = world.markets[target]
    topic_of = dict(zip(market.items["item_id"].to_list(), market.catalogue.topic.tolist(), strict=True))
    topic = np.array([-1, *(topic_of[item] for item in items[target]["item_id"].to_list())])
    return KnownWorld(root, topic, world.shared.transition)


def _write_market(folder: Path, world: World, name: str, items: pl.DataFrame, events: list[str]) -> None:
    market = world.markets[name]
    rows = split_leave_one_out(index_rows(market.interactions, items, name))
    write_sequences(folder / "sequences", training_sequences(rows, events))
    holdout_table(rows, events).write_parquet(folder / "holdout.parquet")
    trained = rows.filter(pl.col("part") == "train")["item_index"].unique()
    numbers = pl.int_range(1, pl.len() + 1, dtype=pl.Int32)
    items.with_columns(in_training=numbers.is_in(trained.implode())).write_parquet(folder / "items.parquet")
    users = rows.select("user_id").unique(maintain_order=True).join(market.users, on="user_id", how="left")
    users.select("user_id", "attributes").sort("user_id").write_parquet(folder / "users.parquet")


def _write_vectors(folder: Path, items: dict[str, pl.DataFrame]) -> None:
    texts = distinct_texts(items)
    ((_, raw),) = Hashing().encode(texts)
    rows = {name: text_rows(frame, texts) for name, frame in items.items()}
    whitening = fit_whitening(raw, WIDTH)
    for name in items:
        (folder / name).mkdir(parents=True, exist_ok=True)
        np.save(folder / name / "text.npy", gathered(whitening(raw), rows[name]))
    write_whitening(folder, whitening)
    (folder / "vectors.json").write_text(json.dumps({"encoder": Hashing().identity, "modalities": {"text": WIDTH}}))
