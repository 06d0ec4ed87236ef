"""A tower per task, on what the trunk says before an interaction and on the item that it was with."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.models.recommender import SequentialRecommender
from pipeline.transfer.tasks.labels import Task
from pipeline.transfer.tasks.weighting import Weighting

TOWERS = "towers"  # of a model while it learns
BLIND: frozenset[str] = frozenset({"attributes"})  # tasks whose label the item would give away


class Towers(nn.Module):
    """Towers of one shape, which start alike; each is a hidden layer and a head of the task's own.

    Trained and checkpointed with the model that they stand on, and then taken away.
    """

    def __init__(self, width: int, tasks: Sequence[Task], weighting: str) -> None:
        super().__init__()
        first = nn.Linear(2 * width, width)
        self.hidden = nn.ModuleDict({task.name: nn.Linear(2 * width, width) for task in tasks})
        self.heads = nn.ModuleDict({task.name: nn.Linear(width, task.outputs) for task in tasks})
        for layer in self.hidden.values():
            layer.load_state_dict(first.state_dict())
        self.weighting = Weighting(1 + len(tasks), weighting)
        self.scale = width**0.5  # as in the trunk: table rows are small

    def forward(self, task: str, states: Tensor, items: Tensor) -> Tensor:
        """float32 [N, C], from states [N, D] and item vectors [N, D]."""
        read = torch.zeros_like(items) if task in BLIND else items * self.scale
        found: Tensor = self.heads[task](functional.gelu(self.hidden[task](torch.cat([states, read], dim=1))))
        return found

    def distance(self) -> Tensor:
        """Σ Ω(θᵢ, θⱼ): the squared distance between the hidden layers of every two towers."""
        flat = [torch.cat([part.flatten() for part in layer.parameters()]) for layer in self.hidden.values()]
        pairs = itertools.combinations(flat, 2)
        return sum(((one - other).square().sum() for one, other in pairs), start=flat[0].new_zeros(()))


@dataclass(frozen=True)
class TowerRates:
    """Towers start from nothing, the trunk does not: they learn `times` as fast. See `pipeline.training.loop.Rates`."""

    times: float

    def part(self, parameter: str) -> int:
        """1 for towers, 0 for the model."""
        return int(parameter.startswith(f"{TOWERS}."))

    def factor(self, part: int, progress: float) -> float:
        """Of the learning rate."""
        return self.times if part else 1.0


def with_towers(model: SequentialRecommender, tasks: Sequence[Task], weighting: str) -> None:
    """Give a model towers."""
    towers = Towers(model.spec.width, tasks, weighting)
    model.add_module(TOWERS, towers.to(next(model.parameters()).device))


def towers_of(model: SequentialRecommender) -> Towers:
    """Those of `with_towers`."""
    towers = model.get_submodule(TOWERS)
    assert isinstance(towers, Towers)
    return towers


def without_towers(model: SequentialRecommender) -> None:
    """Take them away: they are no part of the model."""
    model._modules.pop(TOWERS)
