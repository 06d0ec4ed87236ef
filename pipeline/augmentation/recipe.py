"""How a recommender is trained in the experiment: as in fine-tuning, on given sequences."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.models.recommender import SequentialRecommender
from pipeline.training.batches import TrainingDomain
from pipeline.training.domains import Domain
from pipeline.training.loop import fit
from pipeline.training.next_item import NextItem
from pipeline.training.plan import Plan
from pipeline.training.scoring import Validation

Check = Callable[[], None]


@dataclass(frozen=True)
class Recipe:
    """The same for every arm.

    Attributes:
        plan: with `patience` of all its epochs: every one is taken.
        full_softmax_items, sampled_items, validation_users: as in fine-tuning.
        dropout, id_dropout: of the model.
    """

    plan: Plan
    full_softmax_items: int
    sampled_items: int
    validation_users: int
    dropout: float
    id_dropout: float

    def train(
        self, model: SequentialRecommender, domain: Domain, sequences: TrainingDomain, scratch: Path, check: Check
    ) -> list[dict[str, Any]]:
        """Train `model` in place on `sequences` and leave it with its best epoch's weights; one row an epoch.

        Args:
            domain: with a profile for every sequence.
            check: called at every validation; what it raises ends the training.
        """
        validation = Validation([domain], self.validation_users, self.plan.seed)

        def validate(now: SequentialRecommender) -> float | None:
            check()
            return validation(now)

        loss = NextItem([domain], self.full_softmax_items, self.sampled_items)
        return fit(model, [sequences], loss, validate, self.plan, scratch)
