"""What the parts of `make bench-transfer` have in common: training sets, backbones and arms, each made once."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from training_sets import Shop, write_training_set

from pipeline.data.adapters import amazon
from pipeline.data.world.generate import generate
from pipeline.data.world.params import WorldParams
from pipeline.features.encoders import encoder_named
from pipeline.runs.contract import Job
from pipeline.runs.parameters import read_params
from pipeline.settings import CHECKOUT
from pipeline.stages import pretrain
from pipeline.training.randomness import generator
from pipeline.transfer.experiment import Experiment
from pipeline.transfer.experiment_arms import ARMS, Outcome
from pipeline.transfer.params import TransferParams

WORLDS = (1, 2, 3)
ROLES: Mapping[str, tuple[str, ...]] = {"metro": ("source",), "valley": ("source",), "harbour": ("target",)}
SOURCES = {"sports2014": 40_000, "games2018": 8_000}  # users at most
WAYS = tuple(arm for arm in ARMS if arm != "anil")  # which has a part of its own
DONE = "done"


def world_shops(seed: int, roles: Mapping[str, tuple[str, ...]]) -> dict[str, Shop]:
    """Markets of a world."""
    markets = generate(WorldParams(size="small"), seed).markets
    return {
        name: Shop(role, markets[name].interactions, markets[name].items, markets[name].users)
        for name, role in roles.items()
    }


def amazon_tables(
    root: Path, raw: Path, sources: list[str], targets: list[str]
) -> dict[str, tuple[pl.DataFrame, pl.DataFrame]]:
    """Interactions, with a timestamp made from the order, and items of every shop."""
    written = root / "raw" / "dataset.yaml"
    if not written.exists():
        amazon.prepare(raw, root / "raw", sources, targets, drop_shared_users=sources != targets)
    found = {}
    for name in dict.fromkeys((*sources, *targets)):
        visits, items = (
            pl.read_parquet(root / "raw" / name / f"{table}.parquet") for table in ("interactions", "items")
        )
        visits = visits.with_columns(timestamp=pl.col("position").cast(pl.Datetime("us", "UTC")))
        found[name] = visits, items
    return found


def shops_of_amazon(root: Path, raw: Path) -> Path:
    """A training set of two targets and their sources; no user of a target is in a source."""
    tables = amazon_tables(root, raw, [*SOURCES], ["beauty2014", "scientific2018"])
    found = {}
    for name, (visits, items) in tables.items():
        if name in SOURCES:
            users = visits["user_id"].unique().sort()
            drawn = generator(7, "users", name).choice(users.len(), min(SOURCES[name], users.len()), replace=False)
            visits = visits.join(users.gather(np.sort(drawn)).to_frame(), on="user_id", how="semi")
            items = items.join(visits.select("item_id").unique(), on="item_id", how="semi")
        found[name] = Shop(("source",) if name in SOURCES else ("target",), visits, items)
    if not (root / "training" / "dataset.json").exists():
        write_training_set(root, found, 7, encoder_named("minilm", 1), 256)
    return root


def prepare(root: Path, shops: Mapping[str, Shop], seed: int, changed: Mapping[str, Any]) -> None:
    """A training set and a backbone."""
    if not (root / "training" / "dataset.json").exists():
        write_training_set(root, shops, seed)
    train_backbone(root, seed, changed)


def train_backbone(root: Path, seed: int, changed: Mapping[str, Any], name: str = "backbone") -> None:
    """Pretrain under `root`, once."""
    out = root / name
    if (out / DONE).exists():
        return
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    given = {**read_params(CHECKOUT / "params.yaml")["pretrain"], "validation_users": 1000, **changed, "seed": seed}
    inputs = {"data/training": root / "training", "data/item_vectors": root / "vectors"}
    pretrain.run(inputs, {"models/backbone": out}, pretrain.Params.model_validate(given), Job(root / "scratch"))
    (out / DONE).touch()


def experiment(
    root: Path,
    target: str,
    seed: int,
    shares: Sequence[float],
    changed: Mapping[str, Any],
    limit: int,
    folder: str = "arms",
    arms: Sequence[str] = WAYS,
    seeds: Sequence[int] = (),
    backbone: str = "backbone",
) -> list[Outcome]:
    """Arms and shares of one target, by the seed of its data or several."""
    inputs = {"data/training": root / "training", "data/item_vectors": root / "vectors"}
    inputs["models/backbone"] = root / backbone
    given = {**read_params(CHECKOUT / "params.yaml")["transfer"], "seed": seed, **changed}
    params = TransferParams.model_validate(given)
    return Experiment(inputs, target, params, root / folder / target, arms, limit).run(shares, seeds or [seed])
