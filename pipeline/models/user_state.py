"""A user's own part of the state, adapted in closed form to what the user has taken so far.

What the trunk expects of a user and what the user then takes differ; where they differ in the same direction again and
again, that direction is the user's. After interactions 1 … p, the support set, the offset of the user is

    δ = argmin Σⱼ wⱼ·‖B rⱼ − δ‖² + λ·‖δ‖² = Σⱼ wⱼ·B rⱼ / (λ + Σⱼ wⱼ),    rⱼ = vⱼ − W sⱼ₋₁ − b,    wⱼ = exp(−κ·age)

a ridge regression on the support items vⱼ with the states sⱼ₋₁ before them, and what comes next is ranked by s + δ. The
offset is the inner loop, as in ANIL (Raghu et al., arXiv 1909.09157) over a small head alone; W, b, B, λ and κ are
learned in the outer loop. The dense causal loss is that loop: every place of every sequence is a query, what stands
before it its support. A user without history has no offset. In an exported graph it is part of the graph.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.models.ages import ages

RIDGE = 4.0  # λ at the start, in interactions
HALF_LIFE = 20.0  # of an interaction's weight at the start, in interactions


class UserState(nn.Module):
    """The offset after each item of a history; starts at zero, because B does."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.expected = nn.Linear(width, width)  # W and b
        self.gain = nn.Linear(width, width, bias=False)  # B
        self.log_ridge = nn.Parameter(torch.tensor(math.log(RIDGE)))
        self.log_rate = nn.Parameter(torch.tensor(math.log(math.log(2) / HALF_LIFE)))
        for weight in (self.expected.weight, self.expected.bias, self.gain.weight):
            nn.init.zeros_(weight)

    def forward(self, states: Tensor, history: Tensor, present: Tensor) -> Tensor:
        """Offsets before and after each item.

        Args:
            states: float32 [B, 1 + L, D], after the profile token and after each item.
            history: float32 [B, L, D].
            present: bool [B, L], False where padding.

        Returns:
            float32 [B, 1 + L, D]; zeros at the first place, where nothing has been taken.
        """
        follows = functional.pad(present[:, :-1], (1, 0))  # (B, L), an item stands before; the first one has the token
        before = torch.where(follows[:, :, None], states[:, :-1], states[:, :1])  # (B, L, D)
        residual = self.gain(history - self.expected(before))
        age, counts = ages(present, history.dtype)  # (B, L, L) query, key
        weight = torch.where(counts, torch.exp(-self.log_rate.exp() * age), 0.0)
        weight = weight / (weight.sum(2, keepdim=True) + self.log_ridge.exp())
        return functional.pad(torch.bmm(weight, residual), (0, 0, 1, 0))
