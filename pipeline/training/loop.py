"""The training loop: AdamW, warm-up and decay, clipping, early stopping by full ranking, resume without a trace.

    history = fit(model, domains, loss, validation, plan, job.scratch / "pretrain")

Killed anywhere and called again with the same arguments, it continues from its last checkpoint and ends with the same
weights, bit for bit on a CPU: every random draw comes from the seed and the step (pipeline/training/randomness.py).
Under torchrun several processes share every batch (pipeline/training/distributed.py).
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from tqdm import tqdm

from pipeline.exit_codes import BadConfiguration
from pipeline.models.recommender import SequentialRecommender
from pipeline.training.batches import Batch, EpochBatches, TrainingDomain
from pipeline.training.checkpoints import load_checkpoint, save_checkpoint
from pipeline.training.compiled import compiled
from pipeline.training.distributed import join
from pipeline.training.plan import Plan
from pipeline.training.randomness import seed_torch

log = logging.getLogger(__name__)

Loss = Callable[[SequentialRecommender, Batch], Tensor]
Validate = Callable[[SequentialRecommender], float | None]

SAY_SECONDS = 10.0  # between progress lines within an epoch
CHECKPOINT_SECONDS = 20.0  # between checkpoints within an epoch; has no influence on the result


class Rates(Protocol):
    """A factor on the learning rate of every part of a model; without one every part has the plan's rate."""

    def part(self, parameter: str) -> int:
        """The part that a parameter belongs to, by its name."""
        ...

    def factor(self, part: int, progress: float) -> float:
        """Of a part, when `progress`, 0 to 1, of all steps are taken; 0 keeps it where it is."""
        ...


@dataclass
class Progress:
    """Where training stands; everything a checkpoint needs beside tensors."""

    total_steps: int
    epoch: int = 0
    step_in_epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    targets: int = 0
    best: float | None = None
    best_epoch: int = -1  # -1: the initial weights
    finished: bool = False
    history: list[dict[str, Any]] = field(default_factory=list)


class Training:
    """One training under way: model, optimiser, averages and progress, saved and restored together."""

    def __init__(
        self,
        model: SequentialRecommender,
        domains: Sequence[TrainingDomain],
        loss: Loss,
        validate: Validate,
        plan: Plan,
        scratch: Path,
        rates: Rates | None = None,
    ) -> None:
        self.model, self.domains, self.loss, self.validate = model, domains, loss, validate
        self.plan, self.scratch, self.processes = plan, scratch, join()
        self.names = [name for name, _ in model.named_parameters()]
        self.rates = rates
        self.device = next(model.parameters()).device
        self.optimizer = torch.optim.AdamW(self._groups(), lr=plan.learning_rate, fused=True)
        per_epoch = self._steps_per_epoch()
        self.decay = plan.decay(per_epoch)
        self.average = self._copy() if self.decay else {}
        self.best = self._copy()
        self.epochs = plan.passes(per_epoch)
        self.progress = Progress(total_steps=self.epochs * per_epoch)
        if not self._restore() and plan.judge_start:
            self._judge_start()

    def run(self) -> list[dict[str, Any]]:
        """Train to the end; the model then has the best weights. Returns one row per epoch."""
        state = self.progress
        with compiled(self.model.trunk, wanted=self.plan.compiled):
            while not state.finished and state.epoch < self.epochs:
                self._run_epoch(self._epoch(state.epoch))
                self._close_epoch()
                self._save()
        with torch.no_grad():
            for name, weight in self.model.named_parameters():
                weight.copy_(self.best[name])
        self.model.eval()
        return state.history

    def _groups(self) -> list[dict[str, Any]]:
        """Parameters by part and kind: matrices and tables decay, norms and biases do not."""
        groups: dict[tuple[int, bool], list[Tensor]] = {}
        for name, weight in self.model.named_parameters():
            part = self.rates.part(name) if self.rates else 0
            groups.setdefault((part, weight.dim() > 1), []).append(weight)
        return [
            {"params": weights, "weight_decay": self.plan.weight_decay if is_matrix else 0.0, "part": part}
            for (part, is_matrix), weights in groups.items()
        ]

    def _epoch(self, number: int) -> EpochBatches:
        plan = self.plan
        length = self.model.spec.max_length
        return EpochBatches(self.domains, plan.seed, number, length, plan.batch_users, plan.temperature)

    def _steps_per_epoch(self) -> int:
        return len(self._epoch(0))

    def _judge_start(self) -> None:
        value = self.processes.from_first(lambda: self.validate(self.model))
        if value is not None:
            self.progress.best = value
            self.progress.history.append({"step": 0, "epoch": 0, "valid_ndcg10": value})
            log.info("%s: before training, valid ndcg10 %.4f", self.plan.name, value)

    def _run_epoch(self, batches: EpochBatches) -> None:
        state = self.progress
        started = said = saved = time.monotonic()
        targets_before = state.targets
        self.model.train()
        label = f"{self.plan.name} epoch {state.epoch + 1}/{self.epochs}"
        # None: a bar on a terminal, lines in a log
        hidden = None if self.processes.first else True
        with tqdm(total=len(batches), initial=state.step_in_epoch, desc=label, leave=False, disable=hidden) as bar:
            while state.step_in_epoch < len(batches):
                self._step(batches[state.step_in_epoch])
                state.step_in_epoch += 1
                bar.update()
                now = time.monotonic()
                if bar.disable and now - said >= SAY_SECONDS:
                    said = now
                    self._say(f"step {state.step_in_epoch}/{len(batches)}", started, targets_before)
                if now - saved >= CHECKPOINT_SECONDS:
                    self._save()
                    saved = time.monotonic()
        self._say("trained", started, targets_before)

    def _step(self, batch: Batch) -> None:
        state, plan = self.progress, self.plan
        rank = self.processes.rank
        seed_torch(plan.seed, plan.name, "step", state.step, *([rank] if rank else []))
        for group in self.optimizer.param_groups:
            group["lr"] = plan.rate(state.step, state.total_steps)
            if self.rates is not None:
                group["lr"] *= self.rates.factor(group["part"], state.step / state.total_steps)
        self.optimizer.zero_grad(set_to_none=True)
        value = self._gradient(batch)
        limit = plan.clip / math.sqrt(self.model.spec.members)  # the mean over members has as much less gradient
        norm = float(torch.nn.utils.clip_grad_norm_(self.model.parameters(), limit))
        if not (math.isfinite(value) and math.isfinite(norm)):
            # A step by such a gradient would spoil the weights, and the next batch would be blamed.
            what = f"gradient became {norm}" if math.isfinite(value) else f"loss became {value}"
            users = ", ".join(str(user) for user in batch.users[:5])
            raise BadConfiguration(
                f"{plan.name}: the {what} in epoch {state.epoch + 1} at step {state.step_in_epoch + 1} "
                f"(domain {batch.domain}, users {users}, …); lower learning_rate, now {plan.learning_rate:g}"
            )
        self.optimizer.step()
        state.step += 1
        state.loss_sum += value * batch.n_targets
        state.targets += batch.n_targets
        if self.average:
            # The average starts short and lengthens, or the first epochs would be the initial weights.
            decay = min(self.decay, (1 + state.step) / (10 + state.step))
            with torch.no_grad():
                for name, weight in self.model.named_parameters():
                    self.average[name].lerp_(weight, 1.0 - decay)

    def _gradient(self, batch: Batch) -> float:
        """The mean loss of the batch; its gradient is left at the parameters."""
        mine, value = self.processes.share(batch), 0.0
        if mine.n_targets:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.plan.bf16):
                loss = self.loss(self.model, mine) * (mine.n_targets / batch.n_targets)
            loss.backward()
            value = float(loss.detach())
        return self.processes.add_up(self.model.parameters(), value)

    def _close_epoch(self) -> None:
        state, plan = self.progress, self.plan
        value = self.processes.from_first(self._validated)
        row = {"step": state.step, "epoch": state.epoch + 1, "train_loss": state.loss_sum / max(1, state.targets)}
        if value is not None:
            row["valid_ndcg10"] = value
        state.history.append(row)
        log.info(
            "%s: epoch %d/%d, loss %.4f, valid ndcg10 %s",
            plan.name, state.epoch + 1, self.epochs, row["train_loss"], "–" if value is None else f"{value:.4f}",
        )  # fmt: skip
        if value is None or state.best is None or value > state.best:
            state.best, state.best_epoch = value, state.epoch
            self.best = {name: weight.clone() for name, weight in (self.average or self._copy()).items()}
        state.epoch += 1
        state.step_in_epoch, state.loss_sum, state.targets = 0, 0.0, 0
        if value is not None and state.epoch - 1 - state.best_epoch >= plan.patience:
            log.info("%s: stopped, best was epoch %d", plan.name, state.best_epoch + 1)
            state.finished = True
        if state.epoch == plan.stop_after:
            state.finished = True

    def _validated(self) -> float | None:
        if not self.average:
            return self.validate(self.model)
        current = self._copy()
        try:
            self._load(self.average)
            return self.validate(self.model)
        finally:
            self._load(current)

    def _copy(self) -> dict[str, Tensor]:
        return {name: weight.detach().clone() for name, weight in self.model.named_parameters()}

    @torch.no_grad()
    def _load(self, weights: dict[str, Tensor]) -> None:
        for name, weight in self.model.named_parameters():
            weight.copy_(weights[name])

    def _say(self, where: str, started: float, targets_before: int) -> None:
        if not self.processes.first:
            return
        state, seconds = self.progress, max(time.monotonic() - started, 1e-9)
        log.info(
            "%s: epoch %d/%d, %s, loss %.4f, %.0f positions/s",
            self.plan.name, state.epoch + 1, self.epochs, where,
            state.loss_sum / max(1, state.targets), (state.targets - targets_before) / seconds,
        )  # fmt: skip

    def _save(self) -> None:
        if not self.processes.first:
            return
        tensors: dict[str, Tensor] = {f"weight.{name}": weight for name, weight in self.model.named_parameters()}
        tensors |= {f"best.{name}": weight for name, weight in self.best.items()}
        tensors |= {f"average.{name}": weight for name, weight in self.average.items()}
        for name, weight in self.model.named_parameters():
            for key, value in self.optimizer.state.get(weight, {}).items():
                tensors[f"optimizer.{key}.{name}"] = value
        save_checkpoint(self.scratch, tensors, {"work": self._work(), **asdict(self.progress)})

    def _restore(self) -> bool:
        found = self.processes.from_first(lambda: load_checkpoint(self.scratch, self._work()))
        if found is None:
            return False
        tensors, state = found
        state.pop("work")
        self.progress = Progress(**state)
        groups: dict[str, dict[str, Tensor]] = {"weight": {}, "best": {}, "average": {}}
        for full_name, value in tensors.items():
            kind, name = full_name.split(".", 1)
            if kind == "optimizer":
                key, name = name.split(".", 1)
                weight = self.model.get_parameter(name)
                self.optimizer.state[weight][key] = value.to(weight.device)
            else:
                groups[kind][name] = value.to(self.model.get_parameter(name).device)
        self._load(groups["weight"])
        self.best, self.average = groups["best"], groups["average"]
        log.info("%s: continues at epoch %d, step %d", self.plan.name, self.progress.epoch + 1, self.progress.step)
        return True

    def _work(self) -> str:
        """A digest of what is trained and how, to know one's own checkpoints."""
        about = {**asdict(self.plan), "spec": self.model.spec.to_json()}
        return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def fit(
    model: SequentialRecommender,
    domains: Sequence[TrainingDomain],
    loss: Loss,
    validate: Validate,
    plan: Plan,
    scratch: Path,
    rates: Rates | None = None,
) -> list[dict[str, Any]]:
    """Train `model` in place and leave it with its best weights, in evaluation mode.

    Args:
        model: with its initial weights; the same ones when it is called again after a kill.
        domains: where batches come from.
        loss: of a batch, a scalar; the mean over its targets.
        validate: the figure to stop by after each epoch, None where nothing can be validated (the last weights stay).
        plan: how.
        scratch: a folder of this training's own for checkpoints.
        rates: of the parts of the model; None is one rate for all.

    Returns:
        one row per epoch: step, epoch, train_loss, valid_ndcg10; with `plan.judge_start` one more, epoch 0.

    Raises:
        BadConfiguration: the loss or its gradient became NaN or infinite; the message names the batch.
    """
    return Training(model, domains, loss, validate, plan, scratch, rates).run()
