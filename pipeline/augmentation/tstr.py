"""Train on synthetic, test on real (TSTR, arXiv 1706.02633): what made sequences teach, beside what real ones do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from pipeline.augmentation.mixing import mixed
from pipeline.augmentation.parts import ALL, Part, judged
from pipeline.augmentation.recipe import Check, Recipe
from pipeline.augmentation.rows import Rows
from pipeline.data.sequences import Array
from pipeline.models.recommender import SequentialRecommender
from pipeline.training.domains import Domain
from pipeline.training.randomness import seed_torch


def taught_from_scratch(
    like: SequentialRecommender,
    domain: Domain,
    made: Rows,
    parts: Sequence[Part],
    recipe: Recipe,
    scratch: Path,
    check: Check,
) -> dict[str, dict[str, Array]]:
    """NDCG@10 by part of two recommenders of random weights: one has learned from "real" sequences, one from "made".

    Args:
        like: the architecture.
    """
    figures = {}
    for name, rows in (("real", None), ("made", made)):
        model = from_scratch(like, domain, rows, recipe, scratch / name, check)
        figures[name] = judged(model, domain, parts)
    return figures


def from_scratch(
    like: SequentialRecommender, domain: Domain, rows: Rows | None, recipe: Recipe, scratch: Path, check: Check
) -> SequentialRecommender:
    """A recommender of random weights, trained on `rows` alone; None: on the real sequences."""
    seed_torch(recipe.plan.seed, recipe.plan.name, "weights")
    spec = replace(like.spec, domains=(domain.shape,), dropout=recipe.dropout, id_dropout=recipe.id_dropout)
    model = SequentialRecommender(spec)
    more, sequences = mixed(domain, rows)
    if rows is not None:  # the made ones alone: no real user has a sequence
        offsets = np.concatenate([np.zeros(domain.data.n_users, dtype=np.int64), rows.offsets])
        sequences = replace(sequences, offsets=offsets, items=rows.items.astype(sequences.items.dtype))
    recipe.train(model, more, sequences, scratch, check)
    return model


def tstr(figures: dict[str, dict[str, Array]]) -> dict[str, float] | None:
    """Mean NDCG@10 over all users of `taught_from_scratch`, and made as a share of real; None without held-out rows."""
    if ALL not in figures["real"]:
        return None
    real, made = (float(figures[name][ALL].mean()) for name in ("real", "made"))
    return {"real": real, "made": made, "share": made / real if real else 0.0}
