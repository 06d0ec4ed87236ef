"""Born again: a fresh model that learns from the opinions of an earlier one of its own shape, beside the task.

    loss = (1 - TRUST) · task  +  TRUST · KL(opinion ‖ model)

An earlier generation tells more than what was taken next: what else might have been (Furlanello et al., arXiv
1805.04770). An opinion is known of its first items; the others count together, as one more item
(pipeline/training/opinions.py).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from pipeline.models.recommender import SequentialRecommender
from pipeline.training.batches import Batch
from pipeline.training.domains import Domain
from pipeline.training.losses import Candidates
from pipeline.training.next_item import NextItem, states_and_vectors
from pipeline.training.opinions import Opinions
from pipeline.training.softmax import blocked_loss

TRUST = 0.7  # in the opinion


class BornAgain:
    """The loss of a generation that has an earlier one."""

    def __init__(self, task: NextItem, domains: Mapping[str, Domain], opinions: Mapping[str, Opinions]) -> None:
        """Args:
        task: of domains without an opinion, and which candidates there are.
        domains: by name.
        opinions: of domains whose catalogue is scored whole.
        """
        self._task, self._domains, self._opinions = task, domains, opinions

    def __call__(self, model: SequentialRecommender, batch: Batch) -> Tensor:
        """The mean loss over the batch's targets, in nats."""
        if batch.domain not in self._opinions:
            return self._task(model, batch)
        candidates = self._task.candidates(batch)
        states, vectors = states_and_vectors(model, self._domains[batch.domain], batch, candidates)
        told, places = self._opinions[batch.domain], batch.places[batch.targets > 0]
        items = torch.from_numpy(told.items[places].astype(np.int64)).to(states.device)
        shares = torch.from_numpy(told.shares[places].astype(np.float32)).to(states.device)
        return taught_cross_entropy(
            states, vectors, self._task.positives(batch, candidates), candidates, items - 1, shares, TRUST
        )


def taught_cross_entropy(
    states: Tensor,
    vectors: Tensor,
    positives: Tensor,
    candidates: Candidates,
    items: Tensor,
    shares: Tensor,
    trust: float,
) -> Tensor:
    """The loss above of logits `states @ vectors.T`, a block of rows at a time (`pipeline.training.softmax`).

    Args:
        states: float32 [N, D].
        vectors: float32 [m, D], of the whole catalogue.
        positives: int64 [N], columns.
        candidates: the whole catalogue.
        items: int64 [N, K], columns of the opinion's first items.
        shares: float32 [N, K], theirs; a row's sum is below 1, or 1 but for rounding.
        trust: 0 to 1.

    Returns:
        a scalar; the opinion's entropy, which is constant, is left out but for the part of the others.
    """
    least = torch.finfo(torch.float32).eps
    others = (1.0 - shares.sum(1, keepdim=True)).clamp(min=0.0)  # (N, 1)

    def of_block(logits: Tensor, rows: Tensor, n: int) -> Tensor:
        own, first, told, rest = (part[rows[:, 0]] for part in (positives[:, None], items, shares, others))
        logits += candidates.log_weight
        at_own, at_first = logits.gather(1, own), logits.gather(1, first)
        highest = logits.amax(1, keepdim=True)
        share = logits.sub_(highest).exp_()
        partition = share.sum(1, keepdim=True)
        log_partition = partition.log() + highest
        share /= partition
        known = share.gather(1, first)  # (R, K)
        unknown = (1.0 - known.sum(1, keepdim=True)).clamp(min=least)
        total = (1.0 - trust) * (log_partition - at_own).sum()
        total += trust * ((told * (log_partition - at_first)).sum() - (rest * unknown.log()).sum())
        pull = trust * rest / unknown  # all others are raised or lowered together
        share *= 1.0 - pull
        share.scatter_add_(1, first, pull * known - trust * told)
        share.scatter_add_(1, own, share.new_full(own.shape, trust - 1.0))
        share /= n
        return total

    return blocked_loss(states, vectors, torch.arange(len(states), device=states.device), of_block)
