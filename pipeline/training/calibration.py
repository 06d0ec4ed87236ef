"""Numbers of a trained model that its own training would choose wrongly: they are chosen on validation rows.

* `similarity`, the weight of the likeness in content (`pipeline.models.similarity`);
* `cold_offset`, added to the scores of items without training interactions. What these were worth in training nobody
  saw, so their scores stand on another scale than those of the others.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from pipeline.models.recommender import SequentialRecommender
from pipeline.training.domains import Domain

log = logging.getLogger(__name__)

Validate = Callable[[SequentialRecommender], float | None]
WHILE_TRAINING = 4.0  # the similarity that epochs are compared with; the best one varies little from epoch to epoch
SIMILARITIES = (0.0, 2.0, 4.0, 6.0, 8.0, 11.0, 16.0)
COLD_OFFSETS = (-8.0, -4.0, -2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
FEWEST_COLD = 50  # validation rows whose item is cold; without any, burying such items would look best


def choose_similarity(name: str, model: SequentialRecommender, validate: Validate) -> float | None:
    """Set the weight with the best validation in the spec of a trained `model`.

    Args:
        name: of the training, for the log.
        model: with a similarity; without one nothing is done.
        validate: the figure to choose by.

    Returns:
        the figure at that weight; None without a similarity or without validation rows, where the weight stays.
    """
    return _choose(name, model, "similarity", SIMILARITIES, validate) if model.spec.similarity else None


def choose_cold_offset(
    name: str, model: SequentialRecommender, domains: Sequence[Domain], validate: Validate
) -> float | None:
    """As `choose_similarity`; with fewer than `FEWEST_COLD` validation rows of cold items the offset stays."""
    cold = sum(int(np.sum(domain.data.holdout("validation").item_slice == "cold")) for domain in domains)
    if cold < FEWEST_COLD:
        log.info("%s: %d validation rows of cold items are too few to choose an offset by", name, cold)
        return None
    return _choose(name, model, "cold_offset", COLD_OFFSETS, validate)


def _choose(
    name: str, model: SequentialRecommender, field: str, values: Sequence[float], validate: Validate
) -> float | None:
    """Walk both ways along the ascending `values` from where the spec stands, each until the figure falls."""
    found: dict[float, float] = {}

    def judge(value: float) -> float | None:
        model.spec = replace(model.spec, **{field: value})
        figure = validate(model)
        if figure is not None:
            found[value] = figure
        return figure

    start: float = getattr(model.spec, field)
    best = judge(start)
    if best is None:
        return None
    for way in ([v for v in values if v > start], [v for v in reversed(values) if v < start]):
        for value in way:
            figure = judge(value)
            assert figure is not None
            if figure <= best:
                break
            best = figure
    chosen = max(found, key=lambda value: found[value])
    model.spec = replace(model.spec, **{field: chosen})
    tried = ", ".join(f"{value:g}: {figure:.4f}" for value, figure in sorted(found.items()))
    log.info("%s: %s %g (valid ndcg10 at %s)", name, field, chosen, tried)
    return found[chosen]
