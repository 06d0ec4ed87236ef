"""One arm of fine-tuning, trained: a backbone adapted to a target by a strategy, or the same shape from nothing."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from pipeline.models.inherit import adapted, inherit
from pipeline.models.recommender import SequentialRecommender
from pipeline.models.spec import ModelSpec
from pipeline.training.batches import TrainingDomain
from pipeline.training.domains import Domain
from pipeline.training.loop import Loss, Rates, Validate, fit
from pipeline.training.next_item import NextItem
from pipeline.training.plan import Plan
from pipeline.training.randomness import seed_torch
from pipeline.transfer.adapters import adapt, fold
from pipeline.transfer.mixed_weights import mixed_weights
from pipeline.transfer.nearness import Anchored, Replayed
from pipeline.transfer.params import SCRATCH, ArmName, TransferParams
from pipeline.transfer.popularity import popular_start
from pipeline.transfer.strategies import PartRates
from pipeline.transfer.tasks.figures import Figures, task_figures
from pipeline.transfer.tasks.labels import Task, tasks_of
from pipeline.transfer.tasks.loss import MultiTask
from pipeline.transfer.tasks.params import MULTI_TASK
from pipeline.transfer.tasks.towers import TowerRates, with_towers, without_towers

log = logging.getLogger(__name__)


class FineTuning:
    """Everything that the arms of one target share: each takes the same steps on the same batches at most."""

    def __init__(
        self,
        backbone: SequentialRecommender,
        domain: Domain,
        sequences: TrainingDomain,
        sources: Sequence[Domain],
        validate: Validate,
        params: TransferParams,
        plan: Plan,
    ) -> None:
        """Args:
        backbone: on the device to train on.
        domain: the target, with a profile for every sequence.
        sequences: of the target.
        sources: for replay; those without training sequences are left out.
        validate: the figure to stop by.
        plan: of the arms that start from the backbone.
        """
        self.backbone, self.domain, self.sequences, self.validate = backbone, domain, sequences, validate
        self.sources = [source for source in sources if len(source.data.items)]
        self.params, self.plan = params, plan
        self.popular: dict[ArmName, float] = {}  # β of the arms that started at popularity
        self.together: dict[str, Figures] = {}  # of the tasks of the arm multi_task, once it is trained

    @cached_property
    def tasks(self) -> tuple[list[Task], list[str]]:
        """Those of multi_task, which without any is `whole`, and why others are left out; see `tasks_of`."""
        found, left_out = tasks_of(self.domain.data, self.params)
        for sentence in left_out:
            log.info("%s: %s", self.plan.name, sentence)
        return found, left_out

    def train(self, arm: ArmName, scratch: Path) -> tuple[SequentialRecommender, list[dict[str, Any]]]:
        """The arm's best epoch's model, for the target alone and in evaluation mode; one row an epoch.

        Raises:
            BadConfiguration: the loss became NaN.
        """
        params = self.params
        log.info("%s: arm %s", self.plan.name, arm)
        seed_torch(params.seed, self.plan.name, "weights")
        if arm == SCRATCH:
            spec = replace(self._shape(self.domain), dropout=params.dropout, id_dropout=params.id_dropout)
            model = SequentialRecommender(spec).to(self._device)
            self._start_popular(arm, model)
            plan = replace(self.plan, learning_rate=params.scratch_learning_rate)
            return model, fit(model, [self.sequences], self._next_item(), self.validate, plan, scratch / arm)
        replayed = self.sources if params.replay else []
        model = self._started(replayed, user_state=arm == "anil")
        self._start_popular(arm, model)
        adapters = adapt(model, params.rank) if arm == "adapters" else None
        rates: Rates | None = None
        if arm in ("discriminative", "head", "gradual"):
            rates = PartRates(arm, len(model.spec.layers), params.layer_decay)
        tasks = self.tasks[0] if arm == MULTI_TASK else []
        loss = self._loss(model, replayed, tasks)
        if tasks:
            with_towers(model, tasks, params.task_weighting)
            rates = TowerRates(params.tower_rate)
        history = fit(model, [self.sequences], loss, self.validate, self.plan, scratch / arm, rates)
        if adapters is not None:
            fold(adapters, model)
        if tasks:
            self.together = task_figures(model, self.domain, tasks)
            without_towers(model)
        return self._without_sources(model) if replayed else model, history

    def _start_popular(self, arm: ArmName, model: SequentialRecommender) -> None:
        if self.params.popularity_start:
            self.popular[arm] = popular_start(model, self.domain, self.sequences, self.validate)

    def mix_with_backbone(self, model: SequentialRecommender) -> tuple[SequentialRecommender, float]:
        """An arm that started from the backbone, mixed with it by validation, and the arm's weight in the mixture."""
        start = SequentialRecommender(model.spec).to(self._device)
        inherit(start, self.backbone)
        return mixed_weights(start, model, self.validate)

    @property
    def _device(self) -> torch.device:
        return self.domain.catalogue.device

    def _shape(self, *domains: Domain) -> ModelSpec:
        return self.backbone.spec.for_domains(*(domain.shape for domain in domains))

    def _next_item(self, domains: Sequence[Domain] = ()) -> NextItem:
        params = self.params
        return NextItem(domains or [self.domain], params.full_softmax_items, params.sampled_items, params.gbce)

    def _started(self, replayed: Sequence[Domain], user_state: bool = False) -> SequentialRecommender:
        """The backbone with tables for the target, and for the sources that are replayed; maybe with user states."""
        params = self.params
        spec = replace(self._shape(self.domain, *replayed), dropout=params.dropout, id_dropout=params.id_dropout)
        model = SequentialRecommender(replace(spec, user_state=spec.user_state or user_state))
        inherit(model, self.backbone)
        return model.to(self._device)

    def _without_sources(self, model: SequentialRecommender) -> SequentialRecommender:
        """The same model without the tables of the sources."""
        spec = model.spec
        return adapted(model, self.domain.shape, spec.dropout, spec.id_dropout).to(self._device).eval()

    def train_task_alone(self, task: Task, epochs: int, scratch: Path) -> dict[str, Figures]:
        """The figures of a task that had the trunk and the steps of so many epochs for itself."""
        params = self.params
        seed_torch(params.seed, self.plan.name, "weights")
        model = self._started([])
        with_towers(model, [task], "sum")
        loss = MultiTask(self._next_item(), self.domain, [task], params, alone=True)
        plan = replace(self.plan, stop_after=epochs, judge_start=False)
        rates = TowerRates(params.tower_rate)
        fit(model, [self.sequences], loss, lambda _: None, plan, scratch / f"alone-{task.name}", rates)
        return task_figures(model, self.domain, [task])

    def _loss(self, model: SequentialRecommender, replayed: Sequence[Domain], tasks: Sequence[Task]) -> Loss:
        params, next_item = self.params, self._next_item()
        held: Loss = next_item
        if tasks:
            held = MultiTask(next_item, self.domain, tasks, params)
        if replayed:
            task = self._next_item(replayed)
            held = Replayed(held, replayed, task, params.replay, params.seed, params.batch_users)
        return Anchored(held, model, params.l2_sp) if params.l2_sp else held
