"""Real shops: beauty2014 of which few users are known, scientific2018 of which all are."""

from __future__ import annotations

from pathlib import Path

from prepared import experiment, shops_of_amazon, train_backbone

from pipeline.transfer.experiment_arms import Outcome
from pipeline.transfer.params import SCRATCH

RECIPE = {"recency": True, "similarity": True, "item_statistics": False, "dropout": 0.3, "weight_decay": 0.1}
RECIPE |= {"average_epochs": 1.5, "sampled_items": 1024, "max_steps": 0}
FEWER = (SCRATCH, "whole", "discriminative", "gradual", "mixed weights")
TUNING = {
    "learning_rate": 0.002,
    "epochs": 12,
    "dropout": 0.3,
    "weight_decay": 0.1,
    "average_epochs": 1.5,
    "sampled_items": 1024,
    "max_steps": 0,
}


def shops(root: Path, raw: Path) -> Path:
    """Two targets and the shops to learn from, and a backbone of these."""
    shops_of_amazon(root, raw)
    train_backbone(root, 7, {**RECIPE, "id_dropout": 0.5, "epochs": 4})
    return root


def beauty(root: Path, raw: Path) -> list[Outcome]:
    """A shop of which few users are known."""
    changed = {**TUNING, "validation_users": 3000}
    return experiment(shops(root, raw), "beauty2014", 7, (0.01, 0.1), changed, 2500, arms=FEWER)


def scientific(root: Path, raw: Path) -> list[Outcome]:
    """A shop of which all users are known."""
    changed = {**TUNING, "epochs": 6, "validation_users": 3000}
    return experiment(shops(root, raw), "scientific2018", 7, (1.0,), changed, 10_000, arms=(SCRATCH, "whole"))
