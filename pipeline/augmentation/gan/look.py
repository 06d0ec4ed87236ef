"""A look at what is made: how near it is to real sequences, and whether training has collapsed or diverged.

Coverage tells a collapse, the critic's gap a divergence; the energy distance says which of two looks is the better.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from pipeline.augmentation.gan.losses import Pair
from pipeline.augmentation.gan.plan import GanPlan
from pipeline.models.critic import Critic


@dataclass(frozen=True)
class Look:
    """The figures of one look.

    Attributes:
        step: how many were taken.
        coverage: distinct items made / distinct items of the real sequences.
        distance: energy distance between both, 0 for equal laws.
        gap: mean score of real less that of made sequences, in standard deviations of all scores.
        loss: of the last step.
    """

    step: int
    coverage: float
    distance: float
    gap: float
    loss: float

    @classmethod
    @torch.no_grad()
    def at(cls, step: int, pair: Pair, critic: Critic, loss: float) -> Look:
        """Look at a pair."""
        views = [sequence_views(views, pair.present) for views in (pair.real, pair.made)]
        coverage = _distinct(pair.made, pair.present) / max(1, _distinct(pair.real, pair.present))
        scores = [pair.score(critic, views) for views in (pair.real, pair.made)]
        spread = float(torch.cat(scores).std()) + 1e-9
        gap = float(scores[0].mean() - scores[1].mean()) / spread
        return cls(step, coverage, energy_distance(*views), gap, loss)

    def fault(self, plan: GanPlan) -> str | None:
        """Why training has to end here, in words; None: it may go on. An untrained critic's gap says nothing."""
        if not all(math.isfinite(value) for value in asdict(self).values()):
            return f"a figure is not finite at step {self.step}: it has diverged"
        if self.coverage < plan.least_coverage:
            return (
                f"it covers {self.coverage:.0%} of the items that as many real sequences have at step {self.step}, "
                f"less than {plan.least_coverage:.0%}: it has collapsed"
            )
        if self.step > plan.warm and abs(self.gap) > plan.widest_gap:
            return (
                f"the critic tells made from real by {self.gap:.1f} deviations at step {self.step}, "
                f"more than {plan.widest_gap:g}: it has diverged"
            )
        return None

    def to_json(self) -> dict[str, float | None]:
        """Rounded; None for what is not finite."""
        return {k: round(value, 6) if math.isfinite(value) else None for k, value in asdict(self).items()}


def sequence_views(views: Tensor, present: Tensor) -> Tensor:
    """A sequence as one vector: mean of its items, and mean product of neighbours. [B, T, V] -> [B, 2 · V]."""
    mask = present[:, :, None].to(views.dtype)
    mean = (views * mask).sum(1) / mask.sum(1).clamp(min=1.0)
    both = mask[:, 1:] * mask[:, :-1]
    products = (views[:, 1:] * views[:, :-1] * both).sum(1) / both.sum(1).clamp(min=1.0)
    return torch.cat([mean, products * views.shape[2] ** 0.5], dim=1)


def energy_distance(left: Tensor, right: Tensor) -> float:
    """2·E‖x − y‖ − E‖x − x'‖ − E‖y − y'‖ (Székely & Rizzo 2013), 0 for equal laws; rows are draws."""
    between = torch.cdist(left, right).mean()
    within = [torch.cdist(one, one).sum() / (len(one) * (len(one) - 1)) for one in (left, right)]
    return float(2 * between - within[0] - within[1])


def _distinct(views: Tensor, present: Tensor) -> int:
    # an item's view is its own: as many rows as items
    return len(torch.unique(views[present], dim=0))
