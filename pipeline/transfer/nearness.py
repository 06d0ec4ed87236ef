"""What keeps a fine-tuned model near what it knew: the sources once more, or the distance to its start.

    L = L_target + λ · L_source + α/2 · Σ ‖θ − θ₀‖²

The distance is taken over the shared parts (L2-SP, arXiv 1802.01483); what the target alone has starts from nothing
and is free.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pipeline.models.recommender import SequentialRecommender
from pipeline.training.batches import Batch, EpochBatches
from pipeline.training.domains import Domain
from pipeline.training.loop import Loss
from pipeline.training.next_item import NextItem
from pipeline.transfer.strategies import OWN


class Replayed:
    """A target's loss and, at every step, that of one batch of the sources."""

    def __init__(
        self, target: Loss, sources: Sequence[Domain], task: NextItem, weight: float, seed: int, batch_users: int
    ) -> None:
        """Args:
        sources: at least one with training sequences; the model has ID vectors for each.
        task: next items of the sources.
        weight: λ.
        seed, batch_users: of the batches.
        """
        self._target, self._task, self._weight = target, task, weight
        self._sources, self._seed, self._batch_users = [d.training for d in sources], seed, batch_users
        self._batches: EpochBatches | None = None

    def __call__(self, model: SequentialRecommender, batch: Batch) -> Tensor:
        """Mean over the target's batch, plus λ times the mean over the source's."""
        if self._batches is None:
            self._batches = EpochBatches(self._sources, self._seed, 0, model.spec.max_length, self._batch_users)
        # torch is seeded by the step, so a training that was killed draws the same batch again
        drawn = int(torch.randint(len(self._batches), ()))
        return self._target(model, batch) + self._weight * self._task(model, self._batches[drawn])


class Anchored:
    """A loss and the squared distance of the shared weights to where `start` has them."""

    def __init__(self, loss: Loss, start: SequentialRecommender, weight: float) -> None:
        """Args:
        weight: α.
        """
        self._loss, self._weight = loss, weight
        self._start = {
            name: value.detach().clone() for name, value in start.named_parameters() if not name.startswith(OWN)
        }

    def __call__(self, model: SequentialRecommender, batch: Batch) -> Tensor:
        """The loss of the batch, and the penalty."""
        now = dict(model.named_parameters())
        penalty = sum((now[name] - value).square().sum() for name, value in self._start.items())
        return self._loss(model, batch) + 0.5 * self._weight * penalty
