"""Fusion at the decision: each modality of an item is scored by itself, and the state says how much a score counts.

    score = Σ_m α_m(state) · (state · part_m(item)),    α = M · softmax(A · state + b),    M parts

The parts of an item are what it has been through (attributes, statistics, ID) and each of its projected content
vectors; the sequence reads their sum. Weights start at 1, where the score is that of the sum; a modality that an item
lacks adds nothing. With parts side by side and weighted states it is a dot product like any other, M times as wide.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class DecisionWeights(nn.Module):
    """States that weigh the parts of an item."""

    def __init__(self, parts: int, width: int) -> None:
        super().__init__()
        self.parts = parts
        self.weigh = nn.Linear(width, parts)
        nn.init.zeros_(self.weigh.weight)
        nn.init.zeros_(self.weigh.bias)

    def forward(self, states: Tensor) -> Tensor:
        """[B, S, D] -> [B, S, parts · D]."""
        share = self.parts * torch.softmax(self.weigh(states), dim=-1)  # (B, S, M)
        return (share[..., None] * states[..., None, :]).flatten(-2)


def read_as_one(parts: Tensor, width: int) -> Tensor:
    """The sum of parts that stand side by side: [B, L, M · width] -> [B, L, width]."""
    return parts.unflatten(-1, (-1, width)).sum(-2)
