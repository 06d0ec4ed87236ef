"""How to train, and the parameters that every training stage shares. No torch: the command line reads this too."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from pipeline.runs.contract import StageParams


@dataclass(frozen=True)
class Plan:
    """How to train.

    Attributes:
        name: of the stage (and target), for messages and to tell checkpoints apart.
        seed: of everything random.
        epochs: passes at most.
        max_steps: steps at most, in whole epochs; 0 is no limit. A large domain needs fewer passes than a small one.
        learning_rate: at the end of the warm-up; decays to a tenth along a cosine.
        weight_decay: of matrices and tables, not of norms and biases.
        batch_users: rows of a batch.
        patience: epochs without a better validation before training stops.
        temperature: see `EpochBatches`.
        average: decay of the moving average of weights that is validated and kept; 0 keeps the weights themselves.
        average_epochs: the same by its length in epochs, in place of a decay: alike for large and small data.
        bf16: the model's products in bfloat16, weights and the logits of the loss in float32; one path for CPU and GPU.
        compiled: torch.compile of what reads the sequences; on a CPU nothing is compiled.
        judge_start: validate the initial weights too; training then ends no worse than it began.
        stop_after: end after so many epochs, on the same course as if all of them were to come; 0 is never.
        warm_up: share of all steps.
        clip: largest norm of the gradient.
    """

    name: str
    seed: int
    epochs: int
    max_steps: int
    learning_rate: float
    weight_decay: float
    batch_users: int
    patience: int
    temperature: float = 1.0
    average: float = 0.0
    average_epochs: float = 0.0
    bf16: bool = False
    compiled: bool = False
    judge_start: bool = False
    stop_after: int = 0
    warm_up: float = 0.05
    clip: float = 1.0

    def passes(self, steps_per_epoch: int) -> int:
        """Epochs within both limits, at least one."""
        if not self.max_steps:
            return self.epochs
        return max(1, min(self.epochs, self.max_steps // max(1, steps_per_epoch)))

    def decay(self, steps_per_epoch: int) -> float:
        """Of the moving average of weights, 0 where there is none."""
        if not self.average_epochs:
            return self.average
        return max(0.0, 1.0 - 1.0 / (self.average_epochs * max(1, steps_per_epoch)))

    def rate(self, step: int, total: int) -> float:
        """The learning rate of a step, from 0."""
        warm = max(1, round(self.warm_up * total))
        if step < warm:
            return self.learning_rate * (step + 1) / warm
        progress = min(1.0, (step - warm) / max(1, total - warm))
        return self.learning_rate * (0.1 + 0.9 * 0.5 * (1.0 + math.cos(math.pi * progress)))


class TrainingParams(StageParams):
    """What every stage that trains has to know."""

    seed: int = Field(description="of every random draw")
    epochs: int = Field(ge=1, description="passes over the training sequences at most")
    max_steps: int = Field(default=0, ge=0, description="steps at most, in whole epochs; 0 is no limit")
    learning_rate: float = Field(gt=0, description="of AdamW, after the warm-up")
    weight_decay: float = Field(default=0.05, ge=0, description="of AdamW, on matrices and tables")
    batch_users: int = Field(default=64, ge=1, description="sequences of a batch")
    patience: int = Field(default=4, ge=1, description="epochs without a better validation before training stops")
    average: float = Field(default=0.0, ge=0, lt=1, description="decay of the moving average of weights; 0 is none")
    average_epochs: float = Field(
        default=0.0, ge=0, description="length of that average in epochs, in place of its decay; 0 leaves it to average"
    )
    bf16: bool = Field(default=False, description="products of the model in bfloat16; for GPUs, and CPUs made for it")
    full_softmax_items: int = Field(
        default=5000, ge=0, description="catalogues up to this size are scored whole in training"
    )
    sampled_items: int = Field(default=2048, ge=1, description="uniform draws per batch for larger catalogues")
    validation_users: int = Field(default=5000, ge=1, description="validation rows per domain that are ranked")

    def plan(self, name: str, temperature: float = 1.0, judge_start: bool = False) -> Plan:
        """These parameters as a plan."""
        return Plan(
            name=name,
            seed=self.seed,
            epochs=self.epochs,
            max_steps=self.max_steps,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            batch_users=self.batch_users,
            patience=self.patience,
            temperature=temperature,
            average=self.average,
            average_epochs=self.average_epochs,
            bf16=self.bf16,
            judge_start=judge_start,
        )


class LossParams(TrainingParams):
    """What a stage has to know that teaches the task alone."""

    loss: Literal["softmax", "gbce"] = Field(
        default="softmax", description="softmax, over all items or a corrected sample; gbce, against draws alone"
    )
    calibration: float = Field(default=0.75, ge=0, le=1, description="t of gbce: 1 undoes what drawing does")

    @property
    def gbce(self) -> float | None:
        """The calibration where the loss is gBCE, None where it is not."""
        return self.calibration if self.loss == "gbce" else None
