"""The choice of sources and settings before training, held against the truth; a part of `make bench-transfer`.

Candidates are backbones × arms: on worlds of `SEEDS` metro, valley and both, for harbour with a fifth and with all of
its users; on amazon a tenth of sports2014, of games2018 and both, for beauty2014 with 5 % of its users. What is
predicted for a target is learned from the others alone, a world's two shares left out together. `rank_corr` is the mean
over targets of Spearman's correlation between the predicted gain and the test NDCG@10 of every candidate.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from figures import Figure
from prepared import ROLES, SOURCES, shops_of_amazon, train_backbone, world_shops
from scipy.stats import spearmanr
from training_sets import write_training_set

from pipeline.augmentation.parts import ALL
from pipeline.data.training_set import load_domain
from pipeline.runs.attempt import write_json
from pipeline.runs.parameters import read_params
from pipeline.settings import CHECKOUT
from pipeline.training.domains import open_domain
from pipeline.training.weights import load_model
from pipeline.transfer.experiment import Experiment
from pipeline.transfer.experiment_arms import BASELINES, ZERO_SHOT
from pipeline.transfer.params import SCRATCH, TransferParams
from pipeline.transfer.suggestion import Candidate, Past, suggest
from pipeline.transfer.thinning import few_users
from pipeline.transfer.transferability import known_before

SEEDS = (11, 12, 13)
SHARES = (0.2, 1.0)
ARMS = ("whole", "discriminative", "head")  # beside zero-shot and the control
Row = dict[str, Any]


def candidates(root: Path, raw: Path) -> list[dict[str, Any]]:
    """Every candidate of the choice before training."""
    small = {"width": 32, "epochs": 4}
    given = {**read_params(CHECKOUT / "params.yaml")["transfer"], "epochs": 6, "newcomer_loss": None}
    rows: list[dict[str, Any]] = []
    for seed in SEEDS:
        here = root / f"world-{seed}"
        if not (here / "training" / "dataset.json").exists():
            write_training_set(here, world_shops(seed, ROLES), seed)
        sets = {"metro": ["metro"], "valley": ["valley"], "both": ["metro", "valley"]}
        found = backbones_of(here, sets, lambda folder, seed=seed: train_backbone(folder, seed, small))
        rows += judge(here, "harbour", found, SHARES, {**given, "seed": seed}, f"world {seed}")
    if raw.exists():
        here, whole = root / "amazon", shops_of_amazon(root.parent / "amazon", raw)
        for name in SOURCES:
            if not (here / name / name).exists():
                few_users(whole / "training", here / name, name, 0.1, 7)
        if not (here / "training" / "dataset.json").exists():
            (here / "training").mkdir()
            for name in (*SOURCES, "beauty2014"):
                of = here / name / name if name in SOURCES else whole / "training" / name
                (here / "training" / name).symlink_to(of)
            about = json.loads((whole / "training" / "dataset.json").read_text())
            about["domains"].pop("scientific2018")
            write_json(here / "training" / "dataset.json", about)
            (here / "vectors").symlink_to(whole / "vectors")
        sets = {"sports": ["sports2014"], "games": ["games2018"], "both": ["sports2014", "games2018"]}
        found = backbones_of(here, sets, lambda folder: train_backbone(folder, 7, {**small, "recency": True}))
        changed = {"seed": 7, "sampled_items": 1024, "validation_users": 1000}
        rows += judge(here, "beauty2014", found, (0.05,), {**given, **changed}, "amazon")
    return rows


def judge(
    root: Path,
    target: str,
    backbones: Mapping[str, Path],
    shares: Sequence[float],
    given: Mapping[str, Any],
    family: str,
) -> list[Row]:
    """Every candidate of one target: what is known before training, and what came of it."""
    params = TransferParams.model_validate(given)
    rows: list[Row] = []
    for share in shares:
        control: float | None = None
        for name, folder in backbones.items():
            inputs = {
                "data/training": root / "training",
                "data/item_vectors": root / "vectors",
                "models/backbone": folder,
            }
            wanted = ARMS if control is not None else (SCRATCH, *ARMS)
            tried = Experiment(inputs, target, params, root / "arms" / name, wanted, limit=1500, baselines=False)
            found = {one["arm"]: one for one in tried.run((share,), (params.seed,)) if one["arm"] != BASELINES}
            control = control if control is not None else found[SCRATCH]["valid"]
            known = _known(root, target, folder, share, params)
            for arm in (ZERO_SHOT, *ARMS):
                one = found[arm]
                told = {"backbone": name, "arm": arm, "valid": one["valid"], "test": float(np.mean(one["parts"][ALL]))}
                rows.append({"family": family, "target": f"{family} {share:g}", "control": control, **told, **known})
    return rows


def rank_correlation(rows: Sequence[Row]) -> dict[str, float]:
    """Spearman's correlation by target, every target predicted from the families it is not of."""
    found = {}
    for target in dict.fromkeys(row["target"] for row in rows):
        mine = [row for row in rows if row["target"] == target]
        others = [row for row in rows if row["family"] != mine[0]["family"] and row["valid"] > 0]
        past = [Past(_candidate(row), math.log(row["valid"] / row["control"])) for row in others]
        told = suggest(past, [_candidate(row) for row in mine])
        predicted = {(one.candidate.backbone, one.candidate.arm): one.gain for one in told}
        expected = [predicted[row["backbone"], row["arm"]] for row in mine]
        found[target] = float(spearmanr(expected, [row["test"] for row in mine]).statistic)
    return found


def selector_figures(rows: Sequence[Row]) -> list[Figure]:
    """The mean correlation, and that of every target."""
    by_target = rank_correlation(rows)
    mean = float(np.mean(list(by_target.values())))
    return [
        ("selector.rank_corr", mean, ""),
        *((f"selector.rank_corr {key}", one, "") for key, one in by_target.items()),
    ]


def backbones_of(root: Path, sets: Mapping[str, Sequence[str]], train: Callable[[Path], None]) -> dict[str, Path]:
    """A backbone of each set of sources: `train(folder)` with a training set in which no other domain is a source."""
    found = {}
    for name, sources in sets.items():
        folder = root / "backbones" / name
        if not (folder / "training").exists():
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "vectors").symlink_to(root / "vectors")
            (folder / "training").mkdir()
            about = json.loads((root / "training" / "dataset.json").read_text())
            for domain, told in about["domains"].items():
                told["role"] = ["source"] if domain in sources else ["target"]
                (folder / "training" / domain).symlink_to(root / "training" / domain)
            write_json(folder / "training" / "dataset.json", about)
        train(folder)
        found[name] = folder / "backbone"
    return found


def _known(root: Path, target: str, folder: Path, share: float, params: TransferParams) -> dict[str, float]:
    training, scratch = root / "training", root / "few"
    if share < 1:
        shutil.rmtree(scratch, ignore_errors=True)
        training = few_users(training, scratch, target, share, params.seed)
    model = load_model(folder)
    domain = open_domain(load_domain(training, target), root / "vectors", model.spec, torch.device("cpu"))
    known = known_before(model, domain, params.validation_users, params.seed)
    shutil.rmtree(scratch, ignore_errors=True)
    return known


def _candidate(row: Row) -> Candidate:
    known = (row["logme"], row["zero_shot_ndcg10"], row["target_interactions"], row["source_items"])
    return Candidate(row["target"], row["backbone"], row["arm"], *known)
