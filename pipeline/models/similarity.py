"""How alike an item's content is to what a user has just looked at, beside what the model has learned.

    score = state · item  +  weight · τ · log Σ_j a_j · exp(cos(content_j, content) / τ),    a_j ∝ DECAY^age_j

A cosine of content vectors as they come (text: whitened) ranks by itself, and a trained model does not make it
superfluous: what a model has learned fits its training sequences better than any others, so it leaves no room there for
a signal that helps everywhere alike. For the same reason the term takes no part in training (measured: trained along,
the model learns around it and nothing is won), and its weight is chosen on validation rows.

The mean is a soft maximum: one past item that is nearly the same says more than several that are somewhat alike. Over
several modalities cosines add up; a missing one adds nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

DECAY = 0.6  # per item
SOFTNESS = 0.2  # τ: at 0 the most alike of the items read counts alone, a large one takes the plain mean
READ = 20  # items at most: by then DECAY leaves nothing
BLOCK_BYTES = 32 * 2**20  # of cosines at a time: users × items read × catalogue


def side_by_side(content: Mapping[str, Tensor], modalities: tuple[tuple[str, int], ...]) -> Tensor:
    """The content vectors of the same items, [n, Σ widths]; their dot products are sums of cosines."""
    return torch.cat([content[name] for name, _ in modalities], dim=1)


def likeness(content: Tensor, history: Tensor) -> Tensor:
    """Every item to what was looked at.

    Args:
        content: float32 [m, C], zeros in row 0.
        history: int64 [B, L], rows of `content`, chronological, 0 = left padding.

    Returns:
        float32 [B, m]; zeros where nothing has been read.
    """
    recent = history[:, -READ:]  # (B, K)
    there = (recent > 0).to(content.dtype)
    age = there.flip(1).cumsum(1).flip(1) - 1.0  # (B, K), 0 is the latest
    weight = there * DECAY ** age.clamp(min=0.0)
    weight = weight / weight.sum(1, keepdim=True).clamp(min=1e-6)
    cosines = torch.matmul(functional.embedding(recent, content), content.T)  # (B, K, m)
    total = torch.matmul(weight[:, None], torch.exp(cosines / SOFTNESS))[:, 0]  # (B, m)
    read = there.sum(1, keepdim=True) > 0
    return torch.where(read, SOFTNESS * torch.log(total.clamp(min=1e-30)), 0.0)


def rows_at_once(n_items: int) -> int:
    """Users whose likeness is computed at a time."""
    return max(1, BLOCK_BYTES // (4 * READ * n_items))
