"""Meta-learning of a start from which a few steps go far: Reptile and first-order MAML.

They go on from a model that was trained ordinarily. A step takes one task (pipeline/training/episodes.py) and learns
its batches one after the other. From weights θ

* `reptile` makes ordinary steps of the optimiser to φ and goes a part of the way, θ + ε·(φ − θ)
  (Nichol, Achiam, Schulman, arXiv 1803.02999);
* `fomaml` descends the gradient of all batches but the last (the support) at a rate α, and gives the optimiser, at θ,
  the gradient that the last one (the query) has there (Finn et al., arXiv 1703.03400, the first-order approximation).

The items of an episode are read without their ID vectors, as those of a new domain are. What is learned is not to be
judged where it stands, but after some steps on something new: validation on the sources says nothing of it and falls,
so the last weights are kept.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from pipeline.models.recommender import SequentialRecommender
from pipeline.training.batches import Batch, TrainingDomain
from pipeline.training.domains import Domain
from pipeline.training.episodes import Episode, Episodes, user_groups
from pipeline.training.loop import Loss, Training
from pipeline.training.meta_params import MetaParams
from pipeline.training.plan import Plan

log = logging.getLogger(__name__)


class MetaTraining(Training):
    """The ordinary training by episodes in place of batches; saved and restored between episodes."""

    def __init__(
        self,
        model: SequentialRecommender,
        tasks: Sequence[TrainingDomain],
        loss: Loss,
        plan: Plan,
        scratch: Path,
        params: MetaParams,
    ) -> None:
        self.params = params
        self.support: list[Batch] = []
        super().__init__(model, tasks, loss, lambda _: None, plan, scratch)

    def _epoch(self, number: int) -> Episodes:  # type: ignore[override]  # a step is an episode
        plan, length = self.plan, self.model.spec.max_length
        size = self.params.meta_steps
        return Episodes(self.domains, plan.seed, number, length, plan.batch_users, plan.temperature, size)

    def _steps_per_epoch(self) -> int:
        return len(self._epoch(0)) * (self.params.meta_steps if self.params.meta == "reptile" else 1)

    def _step(self, episode: Episode) -> None:  # type: ignore[override]
        *support, query = episode
        if self.params.meta == "fomaml":
            self.support = support
            super()._step(query)
            return
        start = self._copy()
        for batch in (*support, query):
            super()._step(batch)
        with torch.no_grad():
            for name, weight in self.model.named_parameters():
                weight.copy_(start[name].lerp_(weight, self.params.meta_outer_rate))

    def _gradient(self, batch: Batch) -> float:
        if not self.support:
            return super()._gradient(batch)
        start = self._copy()
        for supporting in self.support:
            super()._gradient(supporting)
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.plan.clip)
            with torch.no_grad():
                for weight in self.model.parameters():
                    if weight.grad is not None:
                        weight.sub_(weight.grad, alpha=self.params.meta_inner_rate)
            self.optimizer.zero_grad(set_to_none=True)
        value = super()._gradient(batch)
        self._load(start)
        return value

    def _work(self) -> str:
        told = {name: value for name, value in self.params.model_dump().items() if name.startswith("meta")}
        return f"{super()._work()} {sorted(told.items())}"


def learn_start(
    model: SequentialRecommender,
    domains: Sequence[Domain],
    sequences: Sequence[TrainingDomain],
    loss: Loss,
    params: MetaParams,
    plan: Plan,
    scratch: Path,
) -> list[dict[str, Any]]:
    """Go on with `model` in place, by episodes; it ends with its last weights, in evaluation mode.

    Args:
        model: trained ordinarily.
        domains: the sources.
        sequences: what is learned from, one for each domain.
        loss: of a batch.
        params: the method, not "none", and its episodes.
        plan: of `params.meta_plan`.
        scratch: a folder of its own for checkpoints.

    Returns:
        one row per epoch, as `pipeline.training.loop.fit`; a step of fomaml is an episode, of reptile a batch.

    Raises:
        BadConfiguration: the loss became NaN or infinite.
    """
    pairs = zip(domains, sequences, strict=True)
    tasks = [task for domain, told in pairs for task in user_groups(domain, told, params.meta_groups, params.seed)]
    log.info(
        "%s: %d tasks of %d domains, episodes of %d batches", plan.name, len(tasks), len(domains), params.meta_steps
    )
    usual, model.items.id_dropout = model.items.id_dropout, params.meta_id_dropout
    rows = MetaTraining(model, tasks, loss, plan, scratch, params).run()
    model.items.id_dropout = usual
    return rows


def counted_on(history: Sequence[dict[str, Any]], more: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of two trainings, one after the other, epochs and steps counted through."""
    last = history[-1]
    return [*history, *(row | {name: last[name] + row[name] for name in ("step", "epoch")} for row in more)]
