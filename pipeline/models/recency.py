"""What a user has just looked at, past the Transformer: decayed means of the history, added to the last state.

An item alike to the recent ones is a good guess that needs no learning, and a trunk whose output is normalised learns
it slowly and in part. Two means of other half-lives go straight to the state, each channel with its own weight; what
they explain, the trunk need not.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.models.ages import ages

HALF_LIVES = (1.5, 6.0)  # in items, at the start; learned


class Recency(nn.Module):
    """Exponentially decayed means of the items read so far."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.log_rate = nn.Parameter(torch.tensor([math.log(math.log(2) / half_life) for half_life in HALF_LIVES]))
        self.gain = nn.Parameter(torch.ones(len(HALF_LIVES), width))

    def forward(self, history: Tensor, present: Tensor) -> Tensor:
        """Means before and after each item.

        Args:
            history: float32 [B, L, D].
            present: bool [B, L], False where padding.

        Returns:
            float32 [B, 1 + L, D]; zeros at the first place, where nothing has been read.
        """
        age, counts = ages(present, history.dtype)  # (B, L, L) query, key
        total = torch.zeros_like(history)
        for rate, gain in zip(self.log_rate.exp(), self.gain, strict=True):
            weight = torch.where(counts, torch.exp(-rate * age), 0.0)  # (B, L, L)
            weight = weight / weight.sum(2, keepdim=True).clamp(min=1e-6)  # rows of padding are empty
            total = total + torch.bmm(weight, history) * gain
        return functional.pad(total, (0, 0, 1, 0))
