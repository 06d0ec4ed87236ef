"""How the losses of several tasks become one.

* `sum`: next items count one, every other task `task_weight`;
* `uncertainty`: Lᵢ / σᵢ² + log σᵢ (half of the first term for squared errors), σᵢ learned along (Kendall et al., arXiv
  1705.07115, eq. 7);
* `gradnorm`: Σ wᵢ Lᵢ, where wᵢ is learned so that the gradients of all tasks at the trunk's last norm are of one size,
  larger for tasks that are behind (Chen et al., arXiv 1711.02257, eq. 2). The loss of a task's start, which that
  compares with, is here the loss of who says the same of everybody: known before the first step, so that nothing has
  to be remembered.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

ASYMMETRY = 1.5  # α of GradNorm, as in the paper


class Weighting(nn.Module):
    """One learned number a task, except where losses are summed."""

    def __init__(self, n_tasks: int, how: str) -> None:
        super().__init__()
        self.how = how
        self.learned = nn.Parameter(torch.zeros(n_tasks)) if how != "sum" else None

    def forward(
        self, losses: Sequence[Tensor], squared: Sequence[bool], starts: Sequence[float], weight: float, shared: Tensor
    ) -> Tensor:
        """The total.

        Args:
            losses: scalars, that of next items first; a batch without labels of a task gives a loss of 0.
            squared: which of them are squared errors.
            starts: the losses of who says the same of everybody.
            weight: of all but the first, where they are summed.
            shared: a parameter that all of them depend on.
        """
        if self.learned is None:
            return losses[0] + weight * torch.stack([*losses[1:]]).sum()
        stacked = torch.stack([*losses])
        if self.how == "uncertainty":
            halves = torch.tensor([0.5 if one else 1.0 for one in squared], device=stacked.device)
            return (halves * stacked * (-self.learned).exp() + 0.5 * self.learned).sum()
        weights = len(losses) * self.learned.softmax(0)
        return (weights.detach() * stacked).sum() + self._imbalance(weights, losses, starts, shared)

    def _imbalance(self, weights: Tensor, losses: Sequence[Tensor], starts: Sequence[float], shared: Tensor) -> Tensor:
        sizes = torch.stack([_gradient(loss, shared).norm() for loss in losses])
        behind = torch.stack([loss.detach() / start for loss, start in zip(losses, starts, strict=True)])
        wanted = (weights.detach() * sizes).mean() * (behind / behind.mean()) ** ASYMMETRY
        return (weights * sizes - wanted).abs().sum()


def _gradient(loss: Tensor, shared: Tensor) -> Tensor:
    if not loss.requires_grad:
        return torch.zeros_like(shared)
    found = torch.autograd.grad(loss, shared, retain_graph=True, allow_unused=True)[0]
    return torch.zeros_like(shared) if found is None else found.detach()
