"""Rotary positions: queries and keys are turned by an angle that grows with their place (RoFormer, arXiv 2104.09864).

Their product then depends on how far apart two items are, not on where they stand, and no table has to be learned.
"""

from __future__ import annotations

import torch
from torch import Tensor

BASE = 10_000.0  # the slowest pair turns once in about 2π · BASE places


def angles(place: Tensor, head_width: int) -> Tensor:
    """float32 [B, S, head_width / 2] for places int64 [B, S]; the head width is even."""
    rates = BASE ** (-torch.arange(0, head_width, 2, device=place.device, dtype=torch.float32) / head_width)
    return place[:, :, None].to(torch.float32) * rates


def turned(x: Tensor, angle: Tensor) -> Tensor:
    """Turn pairs of coordinates: x [B, H, S, W] by angles [B, S, W / 2], the first half paired with the second."""
    cosine, sine = angle.cos()[:, None].to(x.dtype), angle.sin()[:, None].to(x.dtype)  # (B, 1, S, W / 2)
    one, other = x.chunk(2, dim=-1)
    return torch.cat([one * cosine - other * sine, other * cosine + one * sine], dim=-1)
