"""Distillation: a student learns the task and the teacher's opinion of every item.

    L = L_task + λ · T² · KL(teacher ‖ student)      (arXiv 1503.02531)

The divergence is taken over the whole catalogue, items outside of training included: the teacher's opinion of them is
all that the student can learn about them. Where the catalogue is sampled, it is taken over the batch's candidates.

The teacher's item vectors are computed once; its states are computed with each batch, without dropout and without
gradients, which costs less than keeping its logits for windows that move from epoch to epoch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.models.recommender import SequentialRecommender
from pipeline.training.batches import Batch
from pipeline.training.domains import Domain
from pipeline.training.losses import distillation_loss, next_item_loss
from pipeline.training.next_item import NextItem, logits_of


class Taught:
    """The loss of a student beside its teacher."""

    def __init__(
        self, task: NextItem, teacher: SequentialRecommender, domain: Domain, weight: float, temperature: float
    ) -> None:
        """Args:
        task: next items of the domain.
        teacher: in evaluation mode; its weights stay as they are.
        domain: of the target, opened with the teacher's spec.
        weight: λ.
        temperature: T.
        """
        self._task, self._teacher, self._domain = task, teacher.eval(), domain
        self._weight, self._temperature = weight, temperature
        with torch.no_grad():
            self._vectors = teacher.item_vectors(domain.name, domain.catalogue)  # (n_items + 1, D)

    def __call__(self, student: SequentialRecommender, batch: Batch) -> Tensor:
        """Mean over the batch's targets."""
        candidates = self._task.candidates(batch)
        logits = self._task.logits(student, batch, candidates)  # (N, m)
        loss = next_item_loss(logits, self._task.positives(batch, candidates), candidates)
        if self._weight == 0:
            return loss
        with torch.no_grad():
            taught = logits_of(self._teacher, self._domain, batch, candidates, self._vectors)
        if not candidates.complete:  # both partition sums are estimates from the same sample
            logits, taught = logits + candidates.log_weight, taught + candidates.log_weight
        return loss + self._weight * distillation_loss(logits, taught, self._temperature)
