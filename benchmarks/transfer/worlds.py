"""Worlds: a small target beside two sources, and what an ideal observer of it would reach."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from observer import observed
from prepared import ROLES, experiment, prepare, world_shops

from pipeline.augmentation.asked import tail_items
from pipeline.augmentation.parts import parts_of
from pipeline.data.training_set import load_domain
from pipeline.data.world.generate import generate
from pipeline.data.world.params import WorldParams
from pipeline.transfer.experiment_arms import Outcome
from pipeline.transfer.parts import with_states
from pipeline.transfer.thinning import few_users
from pipeline.transfer.trial import TAIL_SHARE

SHARES = (0.1, 1.0)  # of harbour's users


def world(root: Path, seed: int) -> list[Outcome]:
    """A small target beside two sources."""
    prepare(root, world_shops(seed, ROLES), seed, {"epochs": 8})
    return experiment(root, "harbour", seed, SHARES, {}, 5000) + observers(root, "harbour", seed)


def observers(root: Path, target: str, seed: int) -> list[Outcome]:
    """What ideal observers reach who are not told everything."""
    drawn, found = generate(WorldParams(size="small"), seed), []
    for share in SHARES:
        training, thin = root / "training", root / "observed"
        if share < 1:
            shutil.rmtree(thin, ignore_errors=True)
            training = few_users(training, thin, target, share, seed)
        data = load_domain(training, target)
        tail = tail_items(np.bincount(data.items, minlength=data.n_items + 1), TAIL_SHARE)
        parts = parts_of(data, "test", tail, 5000, 0)
        for name, figures in observed(drawn, target, data, parts).items():
            told = {part: values.round(6).tolist() for part, values in with_states(figures, parts, data).items()}
            found.append({"share": share, "seed": seed, "arm": name, "parts": told})
    shutil.rmtree(thin, ignore_errors=True)
    return found
