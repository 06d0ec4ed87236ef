"""Ours under watch: python sasrec_ours.py SPLIT FOLDER SETTING LIMIT --prepared FOLDER, in Warmstart's environment.

The stage `pretrain` itself, with the recipe of `make bench-model` and what the setting names. Its CPU-seconds begin
where the stage does, as the peers' do, and hold its own validations too: the last of them choose the likeness in
content. It ends by its own early stopping.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import polars as pl

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from model import RECIPE
from watch import LISTED, Split, Watch

from pipeline.evaluation.ranking import rank_holdout
from pipeline.graph import load_graph
from pipeline.models.recommender import SequentialRecommender
from pipeline.runs.contract import Job
from pipeline.runs.parameters import apply_overrides, read_params, stage_params
from pipeline.settings import CHECKOUT
from pipeline.stages import pretrain
from pipeline.training import scoring
from pipeline.training.domains import Domain

OWN = ("width", "dropout", "layers", "heads", "learning_rate", "batch_users", "patience")

IDS_EPOCHS = 10  # the recipe's passes are for items with content; IDs alone learn more slowly


def main() -> None:
    """Train by the stage; its early stopping is its own."""
    words = argparse.ArgumentParser()
    for name in ("split", "folder", "setting", "limit"):
        words.add_argument(name)
    words.add_argument("--prepared", required=True, type=Path)
    words.add_argument("--ids-only", action="store_true")
    asked = words.parse_args()
    setting, folder = json.loads(asked.setting), Path(asked.folder)
    data = without_content(asked.prepared, folder) if asked.ids_only else asked.prepared / "data"
    given = (
        *RECIPE,
        "pretrain.members=1",  # as the peers have
        f"seed={setting['seed']}",
        *(f"pretrain.{name}={setting[name]}" for name in OWN),
        f"pretrain.max_length={setting['length']}",
        "pretrain.validation_users=1000000",
        *([f"pretrain.epochs={IDS_EPOCHS}"] if asked.ids_only else []),
    )
    params = apply_overrides(read_params(CHECKOUT / "params.yaml"), given)
    stage = load_graph(CHECKOUT / "dvc.yaml").stages["pretrain"]
    inputs = {f"data/{name}": data / name for name in ("training", "item_vectors")}
    watch = Watch(Split.read(Path(asked.split)), folder, float(asked.limit), setting["patience"])

    class Watched(scoring.Validation):
        def __call__(self, model: SequentialRecommender) -> float | None:
            value, (domain, _, _) = super().__call__(model), self._held[0]
            watch.epoch_ends(lambda part: best_lists(model, domain, part))
            return value

    scoring.Validation = Watched  # type: ignore[misc]
    (folder / "backbone").mkdir(exist_ok=True)
    pretrain.run(inputs, {"models/backbone": folder / "backbone"}, stage_params(stage, params), Job(folder / "scratch"))


def without_content(prepared: Path, folder: Path) -> Path:
    """The same shop with items that are nothing but their IDs."""
    shutil.copytree(prepared / "data" / "training", folder / "data" / "training")
    for path in folder.glob("data/training/*/items.parquet"):
        items = pl.read_parquet(path)
        nothing = {"text": pl.lit(None, pl.String), "attributes": pl.lit([], pl.List(pl.String))}
        items.with_columns(**nothing).write_parquet(path)
    (folder / "data" / "item_vectors").mkdir()
    (folder / "data" / "item_vectors" / "vectors.json").write_text(json.dumps({"modalities": {}}))
    return folder / "data"


def best_lists(model: SequentialRecommender, domain: Domain, part: str) -> np.ndarray:
    """The best unseen items of everybody."""
    ranks = rank_holdout(scoring.ModelScorer(model, domain), domain.data.holdout(part), domain.data.n_items, top=LISTED)
    assert ranks.top is not None
    return ranks.top


if __name__ == "__main__":
    main()
