"""How alike an item is to what a user has just read, by content alone: a second opinion to blend with a teacher's.

The cosine of an item's content and the decayed mean of the contents read so far, as the baseline content-kNN ranks
(`pipeline.evaluation.baselines.ContentNeighbours`). It is a product of two vectors, like a model's logits, so that the
blend is one too.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.models.item_encoder import Catalogue

DECAY = 0.8  # an item back weighs so much


def unit_content(catalogue: Catalogue) -> Tensor:
    """All modalities side by side: float32 [n_items + 1, C], rows of length 1, zeros where nothing is known."""
    rows = torch.cat([catalogue.content[name] for name in sorted(catalogue.content)], dim=1)
    return functional.normalize(rows, dim=1)


def recent_content(content: Tensor, history: Tensor) -> Tensor:
    """What was read before each place, of length 1.

    Args:
        content: float32 [n_items + 1, C], row 0 zeros.
        history: int64 [B, L], 0 = left padding.

    Returns:
        float32 [B, 1 + L, C]; zeros where nothing has been read.
    """
    mean = content.new_zeros(len(history), content.shape[1])
    means = [mean]
    for read in history.T:
        mean = DECAY * mean + content[read]  # (B, C)
        means.append(mean)
    return functional.normalize(torch.stack(means, dim=1), dim=2)
