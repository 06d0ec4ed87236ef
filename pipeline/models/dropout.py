"""Dropout at an eighth of the price: one draw of 64 bits decides eight elements.

On a CPU the random draws, not the products, are what `torch.nn.functional.dropout` spends its time on.
"""

from __future__ import annotations

import torch
from torch import Tensor

LEVELS = 256  # of a byte: the probability is rounded to the next 256th


def dropout(x: Tensor, probability: float, training: bool) -> Tensor:
    """Zero elements at random and scale the others up, so that the expectation stays.

    Args:
        x: of any shape.
        probability: 0 to 1, exclusive.
        training: False gives `x` back.
    """
    threshold = round(probability * LEVELS)
    if not training or threshold == 0:
        return x
    threshold = min(threshold, LEVELS - 1)
    words = torch.empty(-(-x.numel() // 8), dtype=torch.int64, device=x.device).random_(-(2**63), None)
    keep = words.view(torch.uint8)[: x.numel()].view(x.shape) >= threshold
    return x * keep.to(x.dtype).mul_(LEVELS / (LEVELS - threshold))
