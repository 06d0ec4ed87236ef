"""Cross-entropy over a catalogue without its logits: a block of rows at a time, gradients made on the way.

The logits of a batch are its largest tensor: targets × items. Here they stand a block at a time, no larger than
`BLOCK_BYTES`, which on a CPU stays in its caches: half the price of the whole, and the memory no longer grows with the
catalogue. The gradient of a block is a softmax that is at hand in the forward pass, so nothing is computed twice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

BLOCK_BYTES = 4 * 2**20  # of logits at a time on a CPU
BLOCK_BYTES_GPU = 256 * 2**20
FEWEST_ROWS = 16  # of a block, however large the catalogue: fewer make the products slow


def block_rows(n_columns: int, device: torch.device) -> int:
    """Rows of float32 logits that stand at a time."""
    budget = BLOCK_BYTES if device.type == "cpu" else BLOCK_BYTES_GPU
    return max(FEWEST_ROWS, budget // (4 * n_columns))


def blocked_cross_entropy(states: Tensor, vectors: Tensor, positives: Tensor, log_weight: Tensor | None) -> Tensor:
    """Mean cross-entropy, in nats, of `softmax(states @ vectors.T + log_weight)` at the positives.

    Args:
        states: float32 [N, D].
        vectors: float32 [m, D].
        positives: int64 [N], rows of `vectors`; their log_weight is finite.
        log_weight: float32 [m], None is zeros.

    Returns:
        a scalar, differentiable once in `states` and `vectors`.
    """

    def of_block(logits: Tensor, own: Tensor, n: int) -> Tensor:
        if log_weight is not None:
            logits += log_weight
        total = -logits.gather(1, own).sum()
        highest = logits.amax(1, keepdim=True)
        share = logits.sub_(highest).exp_()
        partition = share.sum(1, keepdim=True)
        total += (partition.log() + highest).sum()
        share /= partition * n
        share.scatter_add_(1, own, share.new_full(own.shape, -1.0 / n))
        return total

    return blocked_loss(states, vectors, positives, of_block)


def blocked_loss(
    states: Tensor, vectors: Tensor, positives: Tensor, of_block: Callable[[Tensor, Tensor, int], Tensor]
) -> Tensor:
    """The mean over rows of a loss of logits `states @ vectors.T`, of which one block stands at a time.

    Args:
        states: float32 [N, D].
        vectors: float32 [m, D].
        positives: int64 [N], rows of `vectors`.
        of_block: from logits [R, m], positives [R, 1] and N to the sum of the rows' losses; it overwrites the logits by
            the gradient of the mean.

    Returns:
        a scalar, differentiable once in `states` and `vectors`.
    """
    found: Tensor = _BlockedLoss.apply(states, vectors, positives, of_block)
    return found


class _BlockedLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, vectors: Tensor, positives: Tensor, of_block: Any) -> Tensor:
        n, m = len(states), len(vectors)
        rows = block_rows(m, states.device)
        transposed = vectors.T
        by_states = torch.empty_like(states)
        by_vectors = torch.zeros_like(vectors)
        space = states.new_empty(min(rows, n), m)
        total = states.new_zeros((), dtype=torch.float64)
        for start in range(0, n, rows):
            block = states[start : start + rows]  # (R, D)
            logits = torch.mm(block, transposed, out=space[: len(block)])  # (R, m)
            total += of_block(logits, positives[start : start + rows, None], n)
            torch.mm(logits, vectors, out=by_states[start : start + rows])
            by_vectors.addmm_(logits.T, block)
        ctx.save_for_backward(by_states, by_vectors)
        return (total / n).to(states.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        by_states, by_vectors = ctx.saved_tensors
        return by_states * gradients[0], by_vectors * gradients[0], None, None
