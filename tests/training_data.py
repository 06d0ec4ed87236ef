"""A small training set in the layout of `data/training` and `data/item_vectors`, made in a tenth of a second.

Items have a topic, text vectors and attributes tell it, users stay with a topic for a while and then move to the
next: a model that reads sequences and content can learn it, popularity cannot.
"""

from __future__ import annotations

import importlib
import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import yaml

from pipeline.data.sequences import Sequences, write_sequences
from pipeline.features.whitening import Whitening, write_whitening
from pipeline.runs.contract import Job, StageParams, Summary
from pipeline.settings import CHECKOUT

TOPICS = 4
PROFILE_FEATURES = ["age", "visits"]
ITEM_FEATURES = ["popularity", "novelty"]
WIDTH = 8
OUTPUT = {
    "pretrain": "models/backbone",
    "augment": "data/synthetic",
    "transfer": "models/teacher",
    "distill": "models/student",
    "prune": "models/served",
    "evaluate": "reports/evaluation",
}
ALSO = {  # outputs beside the first
    "augment": ["reports/augmentation"],
    "transfer": ["reports/transfer"],
    "distill": ["reports/distillation"],
}
SHORT = {
    "pretrain": {"epochs": 6, "width": 32, "batch_users": 32, "attribute_buckets": 512, "profile_buckets": 64},
    "augment": {"source_steps": 20, "target_steps": 20, "adversarial_steps": 4, "look_every": 2, "epochs": 2},
    "transfer": {"epochs": 4, "batch_users": 32, "arms": ["whole"]},
    "distill": {"epochs": 12, "width": 16, "id_width": 4, "attribute_buckets": 128, "profile_buckets": 16},
    "prune": {"recovery_epochs": 3},
    "evaluate": {"bootstrap_samples": 200},
}


def write_training_set(folder: Path, domains: dict[str, list[str]], users: int = 60, items: int = 24) -> Path:
    """Write `training/` and `vectors/` under `folder`; `domains` maps names to roles. Returns `folder`."""
    training, vectors = folder / "training", folder / "vectors"
    for name in domains:
        _write_domain(training / name, vectors / name, name, users, items)
    about = {
        "name": "handmade",
        "project": "handmade",
        "pseudonyms": "public",
        "clock": "real",
        "protocol": "leave_one_out",
        "half_life_days": 30.0,
        "history_length": 50,
        "domains": {
            name: {"role": role, "value_scale": {"mean": 0.0, "spread": 1.0}} for name, role in domains.items()
        },
        "targets": [name for name, role in domains.items() if "target" in role],
        "events": ["view"],
        "item_features": ITEM_FEATURES,
        "profile_features": PROFILE_FEATURES,
    }
    (training / "dataset.json").write_text(json.dumps(about))
    (vectors / "vectors.json").write_text(json.dumps({"encoder": "handmade", "modalities": {"text": WIDTH}}))
    write_whitening(vectors, Whitening(np.zeros(WIDTH, np.float32), np.eye(WIDTH, dtype=np.float32)))
    return folder


def rewrite_without_training(training: Path, domain: str) -> None:
    """Take every training interaction and every history away from a domain: a target that starts from nothing."""
    folder = training / domain
    n_users = pl.read_parquet(folder / "users.parquet").height
    none = np.zeros(0)
    write_sequences(folder / "sequences", Sequences(np.zeros(n_users + 1), none, none, none, none))
    items = pl.read_parquet(folder / "items.parquet").with_columns(in_training=pl.lit(False))
    items.write_parquet(folder / "items.parquet")


def _write_domain(folder: Path, vectors: Path, name: str, users: int, items: int) -> None:
    draws = np.random.default_rng(sum(name.encode()))
    topic = np.arange(1, items + 1) % TOPICS
    histories, held_out = [], []
    for user in range(users):
        at = int(draws.integers(TOPICS))
        chosen: list[int] = []
        for step in range(min(int(draws.integers(1, 12)), items)):
            at = (at + (step % 3 == 2)) % TOPICS
            fresh = [i for i in range(1, items + 1) if topic[i - 1] == at and i not in chosen]
            fresh = fresh or [i for i in range(1, items + 1) if i not in chosen]
            chosen.append(int(draws.choice(fresh)))
        kept = len(chosen) - 2 if len(chosen) >= 3 else len(chosen)
        histories.append(chosen[:kept])
        held_out += [(user, split, chosen, place) for split, place in (("validation", kept), ("test", kept + 1))][
            : 2 * (len(chosen) >= 3)
        ]
    flat = np.concatenate([*histories, np.zeros(0)]).astype(np.int32)
    offsets = np.concatenate([[0], np.cumsum([len(h) for h in histories])])
    write_sequences(
        folder / "sequences",
        Sequences(offsets, flat, np.arange(len(flat)), np.ones(len(flat)), np.full(len(flat), np.nan)),
    )
    trained = np.isin(np.arange(1, items + 1), flat)
    counts = np.bincount(flat, minlength=items + 1)[1:]
    pl.DataFrame(
        {
            "item_id": [f"{name}-{i}" for i in range(1, items + 1)],
            "text": [f"topic {t}" for t in topic],
            "attributes": [[f"topic:{t}", f"brand:{i % 5}"] for i, t in enumerate(topic)],
            "available_from": pl.Series([None] * items, dtype=pl.Datetime("us", "UTC")),
            "in_training": trained,
            "popularity": np.log1p(counts).astype(np.float32),
            "novelty": draws.normal(size=items).astype(np.float32),
        }
    ).write_parquet(folder / "items.parquet")
    pl.DataFrame(
        {
            "user_id": [f"user-{u}" for u in range(users)],
            "attributes": [[f"city:{u % 3}"] for u in range(users)],
            "age": draws.normal(size=users).astype(np.float32),
            "visits": draws.normal(size=users).astype(np.float32),
        }
    ).write_parquet(folder / "users.parquet")
    rows = [
        {
            "user_index": user,
            "split": split,
            "item_index": chosen[place],
            "timestamp": 10**15 + place,
            "history": chosen[:place],
            "history_times": list(range(place)),
            "user_slice": "cold" if place == 0 else "few" if place <= 5 else "warm",
            "item_slice": "warm" if trained[chosen[place] - 1] else "cold",
        }
        for user, split, chosen, place in held_out
    ]
    schema = {
        "user_index": pl.Int32,
        "split": pl.String,
        "item_index": pl.Int32,
        "timestamp": pl.Int64,
        "history": pl.List(pl.Int32),
        "history_times": pl.List(pl.Int64),
        "user_slice": pl.String,
        "item_slice": pl.String,
    }
    table = pl.DataFrame(rows, schema=schema)
    table.with_columns(pl.col("timestamp").cast(pl.Datetime("us", "UTC"))).write_parquet(folder / "holdout.parquet")
    vectors.mkdir(parents=True, exist_ok=True)
    centres = np.eye(TOPICS, WIDTH)
    text = np.zeros((items + 1, WIDTH), dtype=np.float32)
    text[1:] = centres[topic] + 0.1 * draws.normal(size=(items, WIDTH))
    np.save(vectors / "text.npy", text)


class Chain:
    """The model stages on a handmade training set, without wrapper, DVC or Airflow."""

    def __init__(self, root: Path, target: str = "t") -> None:
        self.root, self.target = root, target
        self.summaries: dict[str, Summary] = {}

    def folder(self, name: str) -> Path:
        """What stands behind an input or output of a stage, e.g. "models/teacher"."""
        return self.root / name

    def params(self, stage: str, **changed: object) -> StageParams:
        """The project's own parameters with the changes that keep a test short."""
        module = importlib.import_module(f"pipeline.stages.{stage}")
        given = yaml.safe_load((CHECKOUT / "params.yaml").read_text("utf-8"))[stage]
        return module.Params.model_validate({"seed": 7, **given, **SHORT.get(stage, {}), **changed})

    def run(self, stage: str, scratch: str = "scratch", **changed: object) -> Summary:
        """Run one stage; its outputs replace those of an earlier call."""
        module = importlib.import_module(f"pipeline.stages.{stage}")
        outputs = {name: self.folder(name) for name in (OUTPUT[stage], *ALSO.get(stage, []))}
        for folder in outputs.values():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        inputs = {"data/training": self.root / "training", "data/item_vectors": self.root / "vectors"}
        inputs |= {name: self.folder(name) for name in OUTPUT.values()}
        job = Job(self.root / scratch / stage, None if stage == "pretrain" else self.target)
        self.summaries[stage] = module.run(inputs, outputs, self.params(stage, **changed), job)
        shutil.rmtree(job.scratch, ignore_errors=True)
        return self.summaries[stage]

    def copy_to(self, root: Path) -> Chain:
        """The same files elsewhere, to be changed."""
        shutil.copytree(self.root, root, dirs_exist_ok=True)
        return Chain(root, self.target)
