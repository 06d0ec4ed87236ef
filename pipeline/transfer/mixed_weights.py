"""A base and a transfer model as one: their weights mixed, which costs nothing to serve.

    θ = (1 − λ)·θ_backbone + λ·θ_fine-tuned

Fine-tuned from the one, the other lies in the same basin, and the models between them are often better than both, most
of all where the target is small (WiSE-FT, arXiv 2109.01903). λ is the one that validation likes best; 1, the fine-tuned
model as it is, where none is better.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from pipeline.models.recommender import SequentialRecommender
from pipeline.training.loop import Validate

WEIGHTS = (0.25, 0.5, 0.75)


@torch.no_grad()
def interpolated(base: SequentialRecommender, tuned: SequentialRecommender, weight: float) -> SequentialRecommender:
    """A model between two of one shape: `base` at weight 0, `tuned` at 1."""
    mixed = SequentialRecommender(tuned.spec).to(next(tuned.parameters()).device)
    there = tuned.state_dict()
    mixed.load_state_dict({name: value.lerp(there[name], weight) for name, value in base.state_dict().items()})
    return mixed.eval()


def mixed_weights(
    base: SequentialRecommender, tuned: SequentialRecommender, validate: Validate, weights: Sequence[float] = WEIGHTS
) -> tuple[SequentialRecommender, float]:
    """The best model between the two, and its λ.

    Args:
        base: the start of `tuned`, of its shape.
        validate: higher is better; None, nothing can be validated, keeps `tuned`.
        weights: λ to try beside 1.
    """
    best, found, chosen = validate(tuned), tuned, 1.0
    if best is None:
        return tuned, 1.0
    for weight in weights:
        mixed = interpolated(base, tuned, weight)
        value = validate(mixed)
        if value is not None and value > best:
            best, found, chosen = value, mixed, weight
    return found, chosen
