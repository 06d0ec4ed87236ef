"""The weight of the likeness in content, chosen on validation rows after training; see `pipeline.models.similarity`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

from pipeline.models.recommender import SequentialRecommender

log = logging.getLogger(__name__)

WHILE_TRAINING = 4.0  # the weight that epochs are compared with; the best one varies little from epoch to epoch
WEIGHTS = (0.0, 2.0, 4.0, 6.0, 8.0, 11.0, 16.0)  # one peak: the walk up from `WHILE_TRAINING` ends at the first loss


def choose_similarity(
    name: str, model: SequentialRecommender, validate: Callable[[SequentialRecommender], float | None]
) -> float | None:
    """Set the weight with the best validation in the spec of a trained `model`, of equal ones the smallest.

    Args:
        name: of the training, for the log.
        model: with a similarity; without one nothing is done.
        validate: the figure to choose by.

    Returns:
        the figure at that weight; None without a similarity or without validation rows, where the weight stays.
    """
    if not model.spec.similarity:
        return None
    found: dict[float, float] = {}

    def judge(weight: float) -> float | None:
        model.spec = replace(model.spec, similarity=weight)
        value = validate(model)
        if value is not None:
            found[weight] = value
        return value

    start = model.spec.similarity
    best = judge(start)
    if best is None:
        return None
    for way in ([w for w in WEIGHTS if w > start], [w for w in reversed(WEIGHTS) if w < start]):
        for weight in way:
            value = judge(weight)
            assert value is not None
            if value < best or (value == best and weight > start):
                break
            best = value
    weight = max(sorted(found), key=lambda w: found[w])
    model.spec = replace(model.spec, similarity=weight)
    log.info("%s: similarity %g, valid ndcg10 %.4f (%s)", name, weight, found[weight], _said(found))
    return found[weight]


def _said(found: dict[float, float]) -> str:
    return ", ".join(f"{weight:g}: {value:.4f}" for weight, value in sorted(found.items()))
