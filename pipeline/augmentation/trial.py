"""The trial: the same fine-tuning with and without more sequences, judged user by user on held-out rows.

Every arm takes exactly as many steps on as many sequences: real ones, a share of the arm's own, and for the rest real
ones again. The arm "none" has only real ones.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.augmentation.arms import NONE
from pipeline.augmentation.mixing import mixed
from pipeline.augmentation.parts import Part, judged
from pipeline.augmentation.recipe import Check, Recipe
from pipeline.augmentation.rows import Rows, joined
from pipeline.data.sequences import Array
from pipeline.models.inherit import adapted
from pipeline.models.recommender import SequentialRecommender
from pipeline.training.domains import Domain
from pipeline.training.randomness import seed_torch

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ArmFigures:
    """One arm at one share: NDCG@10 of every row of every part, and the steps that were taken."""

    ndcg: dict[str, Array]
    steps: int


def run_trial(
    start: SequentialRecommender,
    domain: Domain,
    arms: Mapping[str, Rows],
    again: Rows,
    shares: Sequence[float],
    parts: Sequence[Part],
    recipe: Recipe,
    scratch: Path,
    check: Check,
) -> dict[str, dict[float, ArmFigures]]:
    """Train and judge every arm at every share.

    Args:
        arms: sequences by name, for the largest share; a smaller one takes the first of them.
        again: real sequences once more, as many.
        shares: of the arm's own sequences beside the real ones.

    Returns:
        arm -> share -> figures; the arm "none" has share 0 only.
    """
    found: dict[str, dict[float, ArmFigures]] = {}
    for name, rows in ((NONE, again), *arms.items()):
        for share in (0.0,) if name == NONE else shares:
            own = round(len(again) * share / max(shares))
            sequences = again if name == NONE else joined(rows.head(own), again.head(len(again) - own))
            folder = scratch / f"{name}-{share:g}".replace(" ", "-")
            model, steps = train_arm(start, domain, sequences, recipe, folder, check)
            figures = judged(model, domain, parts)
            found.setdefault(name, {})[share] = ArmFigures(figures, steps)
            log.info("%s: arm %s, share %g, %d steps", recipe.plan.name, name, share, steps)
    return found


def train_arm(
    start: SequentialRecommender, domain: Domain, rows: Rows, recipe: Recipe, scratch: Path, check: Check
) -> tuple[SequentialRecommender, int]:
    """Fine-tune a copy of `start` on the real sequences and `rows`; the best epoch's model, and the steps taken."""
    seed_torch(recipe.plan.seed, recipe.plan.name, "weights")
    model = adapted(start, domain.shape, recipe.dropout, recipe.id_dropout)
    more, sequences = mixed(domain, rows)
    history = recipe.train(model, more, sequences, scratch, check)
    return model, history[-1]["step"]
