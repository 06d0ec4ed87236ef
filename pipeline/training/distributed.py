"""One training in several processes: each takes its share of every batch, then all make the same step.

    torchrun --nproc-per-node 2 -m pipeline stage pretrain

A batch's gradient is a mean over its targets, so shares count by their targets: the processes together make the step
that one alone would make, but for what is drawn at random within a step (dropout, sampled candidates), of which every
process draws its own. The first process validates and writes; the others are told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from pipeline.training.batches import Batch


@dataclass(frozen=True)
class Processes:
    """Which of how many processes this one is; one alone needs no other."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """The one that writes."""
        return self.rank == 0

    def share(self, batch: Batch) -> Batch:
        """This process's rows of a batch, which may be none."""
        if self.size == 1:
            return batch
        mine = slice(self.rank, None, self.size)  # rows are sorted by length: shares are alike
        return Batch(batch.domain, batch.users[mine], batch.history[mine], batch.targets[mine], batch.places[mine])

    def add_up(self, parameters: Iterable[Tensor], value: float) -> float:
        """Sum the gradients over all processes, in place, and `value`; where nobody has a gradient there is none."""
        if self.size == 1:
            return value
        weights = list(parameters)
        there = [float(weight.grad is not None) for weight in weights]
        parts = [torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in weights]
        told = torch.tensor([value, *there], device=parts[0].device)
        flat = torch.cat([*(part.flatten() for part in parts), told])
        dist.all_reduce(flat)
        *sums, told = flat.split([*(part.numel() for part in parts), len(told)])
        for weight, summed, count in zip(weights, sums, told[1:].tolist(), strict=True):
            weight.grad = summed.view_as(weight) if count else None
        return float(told[0])

    def from_first(self, find: Callable[[], Any]) -> Any:
        """What the first process finds, in all of them."""
        if self.size == 1:
            return find()
        found = [find() if self.first else None]
        dist.broadcast_object_list(found, src=0)
        return found[0]


def join() -> Processes:
    """The processes that torchrun has started, this one among them; alone without torchrun."""
    if not dist.is_torchelastic_launched():
        return Processes()
    if not dist.is_initialized():
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    return Processes(dist.get_rank(), dist.get_world_size())
