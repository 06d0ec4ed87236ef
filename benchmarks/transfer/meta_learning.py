"""Meta-learning on worlds: a state of each user's own, and a start that was learned by Reptile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from figures import Figure
from intervals import intervals
from prepared import ROLES, experiment, prepare, train_backbone, world_shops

from pipeline.data.sequences import Array
from pipeline.transfer.experiment_arms import Outcome

SEEDS = (1, 2, 3)
SUPPORTS = (1, 5, 10)


def anil(root: Path, seed: int) -> list[Outcome]:
    """The small target with and without a state of each user's own."""
    prepare(root, world_shops(seed, ROLES), seed, {"epochs": 8})
    return experiment(root, "harbour", seed, (0.1, 1.0), {}, 5000, "anil", ("whole", "anil"), SEEDS)


def reptile(root: Path, seed: int) -> list[Outcome]:
    """The small target with 10 % of its users from a start that was learned, and from one trained for as long."""
    prepare(root, world_shops(seed, ROLES), seed, {"epochs": 8})
    found = []
    for name, changed in (("reptile", {"epochs": 8, "meta": "reptile", "meta_epochs": 3}), ("longer", {"epochs": 11})):
        train_backbone(root, seed, changed, name)
        whole = experiment(root, "harbour", seed, (0.1,), {}, 5000, f"arms-{name}", ("whole",), SEEDS, name)
        found += [one | {"arm": name} for one in whole if one["arm"] == "whole"]
    return found


def anil_gains(worlds: Sequence[list[Outcome]]) -> list[Figure]:
    """`anil` over `whole`, by support set."""
    rows: list[Figure] = []
    for name, share in (("anil", 1.0), ("anil10", 0.1)):
        here = [[one for one in world if one["share"] == share] for world in worlds]
        for k in SUPPORTS:
            ours, theirs = (over_seeds(here, arm, f"users with {k} interactions") for arm in ("anil", "whole"))
            rows += intervals(f"{name}.k{k}_gain_pct", ours, theirs)
        kept = [one["user_states"] > 0 for world in here for one in world if one["arm"] == "anil"]
        rows += [(f"{name}.kept", f"{sum(kept)} of {len(kept)}", "")] if kept else []
    return rows


def reptile_gains(done: Mapping[str, Any]) -> list[Figure]:
    """A learned start over one trained for as long, and over one without the episodes."""
    learned = [found for key, found in done.items() if key.startswith("reptile-")]
    plain = [[one for one in found if one["share"] == 0.1] for key, found in done.items() if key.startswith("anil-")]
    rows: list[Figure] = []
    for k in SUPPORTS:
        part = f"users with {k} interactions"
        ours = over_seeds(learned, "reptile", part)
        rows += intervals(f"meta.k{k}_gain_pct", ours, over_seeds(learned, "longer", part))
        if len(plain) == len(learned):
            rows += intervals(f"meta.k{k}_over_shorter_pct", ours, over_seeds(plain, "whole", part))
    return rows


def over_seeds(worlds: Sequence[Sequence[Outcome]], arm: str, part: str) -> Array:
    """NDCG@10 of every user of every world, the mean of the seeds."""
    columns = [[one["parts"][part] for one in world if one["arm"] == arm] for world in worlds]
    return np.concatenate([np.zeros(0), *(np.mean(column, axis=0) for column in columns)])
