"""How long ago an item was taken, as a bias of attention: a learned number for every head and doubling of the time.

    attention(q, k) = softmax(query · key / √W + bias[log₂(seconds from taking k to being asked at q)])

After HSTU (arXiv 2402.17152, §3.3) and FuXi-α (arXiv 2502.03036, §3.3): what was taken a minute ago and what was taken
a month ago say different things, wherever they stand in the sequence. A position is asked when its next item is taken;
the last one when a ranking is wanted. Biases start at zero, where attention is the plain one.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.models.moments import UNKNOWN, Moments

SECOND = 1_000_000  # microseconds
GAPS = 33  # 0 is unknown, 1 + d is 2^d - 1 to 2^(d + 1) - 2 seconds; the last one begins at 68 years


def gaps_of(moments: Moments) -> Tensor:
    """int64 [B, 1 + L, 1 + L] (query, key): which bias counts; 0 for the profile token, which no time has."""
    times = moments.times  # (B, L)
    asked = torch.cat([times, moments.now[:, None]], dim=1)[:, :, None]  # (B, 1 + L, 1)
    taken = times[:, None, :]  # (B, 1, L)
    known = (asked != UNKNOWN) & (taken != UNKNOWN)
    seconds = torch.where(known, asked - taken, 0).clamp(min=0).to(torch.float64) / SECOND
    gap = 1 + torch.log2(1 + seconds).long().clamp(max=GAPS - 2)  # (B, 1 + L, L)
    return functional.pad(torch.where(known, gap, 0), (1, 0))


class RelativeTime(nn.Module):
    """The biases of one layer."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.bias = nn.Embedding(GAPS, heads)
        nn.init.zeros_(self.bias.weight)

    def forward(self, gaps: Tensor, visible: Tensor) -> Tensor:
        """From `gaps_of` and bool [B, 1, S, S] to what is added to the logits of attention, [B, H, S, S]."""
        bias = self.bias(gaps).permute(0, 3, 1, 2)
        return torch.where(visible, bias, float("-inf"))
