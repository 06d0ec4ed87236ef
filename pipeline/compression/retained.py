"""What each arm keeps of the teacher's NDCG@10 on the test users, seen items masked; validation has chosen before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.compression.arms import Arm
from pipeline.data.sequences import Array
from pipeline.evaluation.metrics import ndcg
from pipeline.evaluation.ranking import rank_holdout
from pipeline.evaluation.retention import retention
from pipeline.evaluation.slices import slices_of
from pipeline.evaluation.statistics import bootstrap
from pipeline.models.recommender import SequentialRecommender
from pipeline.training.domains import Domain
from pipeline.training.scoring import ModelScorer

Row = dict[str, Any]
SAMPLES, CONFIDENCE = 2000, 0.95
PARTS = ("item warm", "item cold")


def retained(
    teacher: SequentialRecommender, teachers: Domain, arms: Sequence[tuple[Arm, Domain]], seed: int
) -> tuple[Row, dict[str, Array]]:
    """The teacher and its arms, with intervals over the same users.

    Args:
        teacher: what is kept of.
        teachers: the target, opened with the teacher's spec.
        arms: each with the target opened with its own spec.
        seed: of the bootstrap.

    Returns:
        `n` test users, `teacher` and `arms` with parameters and, where there are users, NDCG@10 and retention; and
        NDCG@10 of every test user by arm.
    """
    holdout = teachers.data.holdout("test")
    theirs = _ndcg(teacher, teachers)
    parts = {name: mask for name, mask in slices_of(holdout).items() if name in PARTS}
    rows, columns = [], {"teacher": theirs}
    for arm, domain in arms:
        column = columns[arm.name] = _ndcg(arm.model, domain)
        kept = retention(column, theirs, SAMPLES, CONFIDENCE, seed)
        about: Row = {"arm": arm.name, "parameters": arm.model.n_parameters, "steps": arm.steps}
        about |= {"valid_ndcg10": arm.valid, "retention": kept.to_json() if kept else None}
        rows.append(about | _figures(column, parts, seed))
    of_teacher = {"arm": "teacher", "parameters": teacher.n_parameters} | _figures(theirs, parts, seed)
    return {"n": len(holdout), "confidence": CONFIDENCE, "teacher": of_teacher, "arms": rows}, columns


def _ndcg(model: SequentialRecommender, domain: Domain) -> Array:
    holdout = domain.data.holdout("test")
    return ndcg(rank_holdout(ModelScorer(model, domain), holdout, domain.data.n_items).masked, 10)


def _figures(column: Array, parts: dict[str, Array], seed: int) -> Row:
    if len(column) == 0:
        return {"ndcg10": None, "parts": {}}
    estimate = bootstrap({"ndcg10": column}, SAMPLES, CONFIDENCE, seed)["ndcg10"]
    means = {
        name: {"ndcg10": float(np.mean(column[mask])), "n": int(mask.sum())}
        for name, mask in parts.items()
        if mask.any()
    }
    return {"ndcg10": estimate.to_json(), "parts": means}
