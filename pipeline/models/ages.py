"""How many items ago each item of a history was read, seen from every item of it."""

from __future__ import annotations

import torch
from torch import Tensor


def ages(present: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Ages and whether they count.

    Args:
        present: bool [B, L], False where padding.
        dtype: of the ages.

    Returns:
        age [B, L, L] (query, key), 0 for the item itself and for what is to come, whose weight must stay finite; and
        bool [B, L, L], whether the key is an item that the query has behind it.
    """
    place = present.long().cumsum(1)  # (B, L), 1 is the first item
    age = place[:, :, None] - place[:, None, :]  # (B, L, L)
    return age.clamp(min=0).to(dtype), (age >= 0) & present[:, None, :]
