"""How alike an item's content is to what a user has just looked at, beside what the model has learned.

    score = state · item  +  weight · Σ_m (decayed mean of the history's content_m) · content_m

A cosine of content vectors as they come (text: whitened) ranks by itself, and a trained model does not make it
superfluous: what a model has learned fits its training sequences better than any others, so it leaves no room there for
a signal that helps everywhere alike. For the same reason the term takes no part in training (measured: trained along,
the model learns around it and nothing is won), and its weight is chosen on validation rows.

The term is a dot product too: content goes behind the item vectors and weighted means behind the states, so whoever
ranks by dot products, an exported graph included, needs to know nothing of it.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.models.ages import ages

DECAYS = (0.63, 0.89)  # per item; half-lives of 1.5 and 6 items, the mean of both is taken


def side_by_side(content: Mapping[str, Tensor], modalities: tuple[tuple[str, int], ...]) -> Tensor:
    """The content vectors of the same items, [n, Σ widths]; their dot products are sums of cosines."""
    return torch.cat([content[name] for name, _ in modalities], dim=1)


def content_means(content: Tensor, present: Tensor) -> Tensor:
    """What the history was like, before and after each item.

    Args:
        content: float32 [B, L, C] of the items read, zeros where padding.
        present: bool [B, L], False where padding.

    Returns:
        float32 [B, 1 + L, C]; zeros at the first place, where nothing has been read.
    """
    age, counts = ages(present, content.dtype)  # (B, L, L) query, key
    total = torch.zeros_like(counts, dtype=content.dtype)
    for decay in DECAYS:
        weight = torch.where(counts, decay**age, 0.0)  # (B, L, L)
        total = total + weight / weight.sum(2, keepdim=True).clamp(min=1e-6)
    return functional.pad(torch.bmm(total / len(DECAYS), content), (0, 0, 1, 0))
