"""What can be learned from a teacher beside the task: terms of a loss over logits and states of any two models.

The divergence itself is `pipeline.training.losses.distillation_loss`.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def ranking_loss(top: Tensor, rest: Tensor) -> Tensor:
    """How unlikely the student finds the teacher's order of its first K: the mean of -log P over places and rows.

    The items are drawn one after the other, each with a softmax over those that are left; the rest has no order and
    is only there to lose (relaxed ranking distillation, arXiv 2012.04357; the likelihood is Plackett and Luce's).

    Args:
        top: float32 [N, K], the student's logits of the teacher's first K items, the teacher's best first.
        rest: float32 [N, R], the student's logits of other items; -inf counts for nothing.
    """
    beside = torch.cat([top, rest.logsumexp(1, keepdim=True)], dim=1)  # (N, K + 1)
    left = beside.flip(1).logcumsumexp(1).flip(1)[:, :-1]  # (N, K), of everything from a place on
    return (left - top).mean()


def matching_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared error of representations; float32 [N, D] both, the student's projected to the teacher's width."""
    return functional.mse_loss(student, teacher)
