"""gBCE: binary cross-entropy over a few uniform negatives that does not become overconfident.

    loss = -log σ(s⁺)^β - Σ_{drawn} log(1 - σ(s⁻)),   β = α · (t · (1 - 1/α) + 1/α),   α = draws / (items - 1)

Negative sampling makes what is observed look more probable than it is; the power β takes that back (Petrov and
Macdonald, RecSys 2023, arXiv 2308.07192, eq. 12 to 14). t = 0 is the usual binary cross-entropy, t = 1 gives the
probabilities that no sampling would have given.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.training.softmax import blocked_loss


def beta(n_negatives: int, n_items: int, calibration: float) -> float:
    """The power β of the positives' probability, 0 to 1.

    Args:
        n_negatives: drawn for a positive.
        n_items: that could be drawn, the positive counted.
        calibration: t.
    """
    rate = min(1.0, n_negatives / max(1, n_items - 1))
    return rate * (calibration * (1.0 - 1.0 / rate) + 1.0 / rate)


def blocked_gbce(states: Tensor, vectors: Tensor, positives: Tensor, negatives: Tensor, power: float) -> Tensor:
    """Mean gBCE, in nats per term: each row's sum is divided by its number of terms, as the paper does.

    Args:
        states: float32 [N, D].
        vectors: float32 [m, D].
        positives: int64 [N], rows of `vectors`; never a negative of their own row.
        negatives: bool [m].
        power: β.
    """
    wrong = negatives.to(states.dtype)  # (m,)
    terms = float(wrong.sum()) + 1.0

    def of_block(logits: Tensor, own: Tensor, n: int) -> Tensor:
        right = logits.gather(1, own)  # (R, 1)
        losses = functional.softplus(logits) * wrong
        losses.scatter_(1, own, power * functional.softplus(-right))
        logits.sigmoid_().mul_(wrong)
        logits.scatter_(1, own, -power * torch.sigmoid(-right))
        logits /= n * terms
        return losses.sum() / terms

    return blocked_loss(states, vectors, positives, of_block)
