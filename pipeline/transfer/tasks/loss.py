"""The loss of several tasks on one batch: next items, what else is known of them, and the distance between towers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from pipeline.data.sequences import Array
from pipeline.models.members import last_norm_of
from pipeline.models.recommender import SequentialRecommender
from pipeline.training.batches import Batch
from pipeline.training.domains import Domain
from pipeline.training.next_item import NextItem, states_and_vectors
from pipeline.transfer.tasks.labels import Task
from pipeline.transfer.tasks.params import TaskParams
from pipeline.transfer.tasks.towers import towers_of


class MultiTask:
    """Σ Lᵢ + λ Σ Ω(θᵢ, θⱼ) for a model with towers."""

    def __init__(
        self, next_item: NextItem, domain: Domain, tasks: Sequence[Task], params: TaskParams, alone: bool = False
    ) -> None:
        """Args:
        next_item: of the target.
        domain: the target, opened for the model.
        tasks: at least one; made sequences among the batches have no labels.
        params: weights.
        alone: without next items: a task by itself, to compare with.
        """
        self._next_item, self._domain, self._tasks, self._params = next_item, domain, tasks, params
        self._alone = alone
        trained = int(domain.catalogue.trained.sum())
        self._starts = [math.log(max(2, trained)), *(start_of(task) for task in tasks)]

    def __call__(self, model: SequentialRecommender, batch: Batch) -> Tensor:
        """Of a batch, a scalar; each loss is a mean over its labels."""
        candidates = self._next_item.candidates(batch)
        states, vectors = states_and_vectors(model, self._domain, batch, candidates)
        items = vectors.index_select(0, self._next_item.positives(batch, candidates))  # (N, D)
        towers, places = towers_of(model), batch.places[batch.targets > 0]
        losses = [loss_of(task, towers(task.name, states, items), places) for task in self._tasks]
        if self._alone:  # a batch may have no label, and then nothing moves
            return torch.stack(losses).sum() + 0.0 * states.sum()
        first = self._next_item.loss_of(model, states, vectors, batch, candidates)
        total: Tensor = towers.weighting(
            [first, *losses],
            [False, *(task.kind == "number" for task in self._tasks)],
            self._starts,
            self._params.task_weight,
            last_norm_of(model.trunk).weight,
        )
        return total + self._params.tower_distance * towers.distance()


def loss_of(task: Task, said: Tensor, places: Array) -> Tensor:
    """The mean over those of `places` [N] whose label is learned; 0 where there is none.

    Args:
        said: float32 [N, C], of the task's tower.
    """
    real = places < len(task.learned)  # made sequences stand behind the real ones
    learned = real & task.learned[np.where(real, places, 0)]
    rows = torch.from_numpy(np.flatnonzero(learned)).to(said.device)
    if not len(rows):
        return said.new_zeros(())
    labels = torch.from_numpy(task.labels[places[learned]]).to(said.device)
    said = said.index_select(0, rows)
    if task.kind == "number":
        return functional.mse_loss(said, labels)
    if task.kind == "class":
        return functional.cross_entropy(said, labels[:, 0].long())
    return functional.binary_cross_entropy_with_logits(said, labels)


def start_of(task: Task) -> float:
    """The loss of who says the same of everybody: the mean, or how frequent every class is."""
    labels = task.labels[task.learned]
    if task.kind == "number":
        return float(labels.var())
    if task.kind == "class":
        share = np.bincount(labels[:, 0].astype(int), minlength=task.outputs) / len(labels)
        return float(-(share[share > 0] * np.log(share[share > 0])).sum())
    share = labels.mean(0).clip(1e-6, 1 - 1e-6)
    return float(-(share * np.log(share) + (1 - share) * np.log(1 - share)).mean())
