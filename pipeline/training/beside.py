"""Objectives beside the task: L = L_next item + Σ wᵢ·Lᵢ, all on the same states."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from pipeline.models.recommender import SequentialRecommender
from pipeline.training.attribute_prediction import AttributePrediction
from pipeline.training.batches import Batch
from pipeline.training.contrastive import Contrastive
from pipeline.training.domains import Domain
from pipeline.training.loop import Loss
from pipeline.training.next_item import NextItem, states_and_vectors


class Objective(Protocol):
    """A loss of the states [N, D] of a batch's N positions that have a target."""

    def __call__(self, model: SequentialRecommender, batch: Batch, states: Tensor) -> Tensor:
        """A scalar, in nats."""
        ...


class Beside:
    """The task's loss and others, each with its weight."""

    def __init__(
        self, task: NextItem, domains: Sequence[Domain], objectives: Sequence[tuple[float, Objective]]
    ) -> None:
        self._task, self._objectives = task, objectives
        self._domains = {domain.name: domain for domain in domains}

    def __call__(self, model: SequentialRecommender, batch: Batch) -> Tensor:
        """The weighted sum for a batch."""
        candidates = self._task.candidates(batch)
        states, vectors = states_and_vectors(model, self._domains[batch.domain], batch, candidates)
        total = self._task.loss_of(model, states, vectors, batch, candidates)
        for weight, objective in self._objectives:
            total = total + weight * objective(model, batch, states)
        return total


def with_objectives(task: NextItem, domains: Sequence[Domain], contrastive: float, attributes: float) -> Loss:
    """The task alone where both weights are 0, and the task with what has a weight where not."""
    objectives: list[tuple[float, Objective]] = []
    if contrastive:
        objectives.append((contrastive, Contrastive(domains)))
    if attributes:
        objectives.append((attributes, AttributePrediction(domains)))
    return Beside(task, domains, objectives) if objectives else task
