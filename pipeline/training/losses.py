"""Losses of next-item prediction over the catalogue, all of it or a corrected sample.

The candidates are chosen first, so that a teacher and a student can be compared on the same ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Candidates:
    """The items a batch is scored against.

    Attributes:
        items: int64 [m], item indices, ascending.
        log_weight: float32 [m], added to the logits of the task: 0 for an item that is certainly a candidate, minus
            the log of its chance for a sampled one, -inf for an item that is no negative.
        complete: the candidates are the whole catalogue.
        drawn: bool [m], among the uniform draws; None where nothing is drawn.
    """

    items: Tensor
    log_weight: Tensor
    complete: bool
    drawn: Tensor | None = None


def full_candidates(trained: Tensor) -> Candidates:
    """Every item; `trained` is bool [n_items + 1].

    Items that are not in training are no negatives: they were not there to be chosen, and as negatives they would be
    pushed away from everybody, content and all. A teacher has an opinion of them all the same.
    """
    items = torch.arange(1, len(trained), device=trained.device)
    return Candidates(items, torch.where(trained[1:], 0.0, float("-inf")), complete=True)


def sampled_candidates(trained: Tensor, targets: Tensor, n_uniform: int) -> Candidates:
    """The batch's own targets and `n_uniform` uniform draws, each weighted by one over its chance to be here.

    An item's chance: certain to be here if it is a target of this batch (in-batch negatives; popular items are nearly
    always here), else that of being drawn at least once. So `Σ exp(logit + log_weight)` estimates the full partition
    sum (Horvitz–Thompson): exactly for the part of the batch's targets, without bias for the rest.

    Args:
        trained: bool [n_items + 1].
        targets: int64 [N], the items to be predicted.
        n_uniform: draws, with replacement, from all trained items.
    """
    pool = torch.nonzero(trained).flatten()
    drawn = pool[torch.randint(len(pool), (n_uniform,), device=pool.device)]
    certain = torch.zeros_like(trained)
    certain[targets] = True
    by_chance = torch.zeros_like(trained)
    by_chance[drawn] = True
    items = torch.nonzero(certain | by_chance).flatten()
    chance = 1.0 - (1.0 - 1.0 / len(pool)) ** n_uniform
    log_weight = torch.where(certain[items], 0.0, -torch.log(torch.tensor(chance, device=pool.device)))
    return Candidates(items, log_weight, complete=False, drawn=by_chance[items])


def next_item_loss(logits: Tensor, positives: Tensor, candidates: Candidates) -> Tensor:
    """Mean cross-entropy, in nats, of the positives among the candidates.

    Args:
        logits: float32 [N, m], uncorrected.
        positives: int64 [N], columns of `logits`.
        candidates: of the columns; positives have log_weight 0, as both choices give them.
    """
    return functional.cross_entropy(logits + candidates.log_weight, positives)


def distillation_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T² · KL(teacher ‖ student) at temperature T, mean over rows (Hinton et al., arXiv 1503.02531).

    Both are logits [N, m] of any classifier over the same columns. T² keeps the gradient's size when T changes.
    """
    log_student = functional.log_softmax(student / temperature, dim=1)
    log_teacher = functional.log_softmax(teacher / temperature, dim=1)
    return temperature**2 * functional.kl_div(log_student, log_teacher, log_target=True, reduction="batchmean")
