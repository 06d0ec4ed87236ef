"""What generator and critic learn by: likelihood of real sequences, and the Wasserstein game (arXiv 1701.07875)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.augmentation.gan.plan import GanPlan
from pipeline.augmentation.gan.real_sequences import RealSequences
from pipeline.augmentation.gan.windows import Windows, condition_of
from pipeline.models.critic import Critic, gradient_penalty
from pipeline.models.generator import SequenceGenerator


def likelihood_loss(generator: SequenceGenerator, real: RealSequences, windows: Windows) -> Tensor:
    """Mean cross-entropy of every item of the windows, each from those before it."""
    condition, items = condition_of(real, windows, given=False)
    logits = generator.logits(real.space, condition, _noise(generator, len(items)), items)
    return functional.cross_entropy(logits, items[items > 0])


@dataclass(frozen=True)
class Pair:
    """Real sequences and what was made in their place, for the same conditions; as a critic sees them.

    Attributes:
        real, made: float32 [B, T, W + 1], what is seen of each item (`Space.seen`).
        present: bool [B, T], of both.
        profile: float32 [B, P].
        ending: float32 [B, W], the vector of the item to arrive at, zeros for none.
    """

    real: Tensor
    made: Tensor
    present: Tensor
    profile: Tensor
    ending: Tensor

    def score(self, critic: Critic, views: Tensor) -> Tensor:
        """The critic's answer to `real` or `made`, float32 [B]."""
        scores: Tensor = critic(views, self.present, self.profile, self.ending)
        return scores


def make_pair(
    generator: SequenceGenerator, real: RealSequences, windows: Windows, temperature: float, given: bool
) -> Pair:
    """Have the generator make a sequence for every window, as long as it; see `condition_of` for `given`."""
    condition, items = condition_of(real, windows, given)
    lengths = (items > 0).sum(1)
    seen = real.space.seen
    _, made = generator.generate(
        real.space, condition, _noise(generator, len(items)), lengths, temperature, real.distinct, seen
    )
    return Pair(seen[items], made, items > 0, condition.profile, real.space.vectors[condition.ending])


def critic_loss(
    critic: Critic, generator: SequenceGenerator, real: RealSequences, windows: Windows, plan: GanPlan
) -> Tensor:
    """Mean score of made less that of real sequences, with the gradient penalty where the plan wants it."""
    with torch.no_grad():
        pair = make_pair(generator, real, windows, plan.temperature, given=True)
    truth, made = pair.score(critic, pair.real), pair.score(critic, pair.made)
    loss = made.mean() - truth.mean()
    if plan.constraint == "gradient_penalty":
        penalty = gradient_penalty(critic, pair.real, pair.made, pair.present, pair.profile, pair.ending)
        loss = loss + plan.penalty * penalty
    return loss


def generator_loss(
    generator: SequenceGenerator, critic: Critic, real: RealSequences, windows: Windows, plan: GanPlan
) -> Tensor:
    """Less the mean score of what is made, with the likelihood of the same windows as an anchor."""
    pair = make_pair(generator, real, windows, plan.temperature, given=True)
    score = pair.score(critic, pair.made)
    return plan.anchor * likelihood_loss(generator, real, windows) - score.mean()


def _noise(generator: SequenceGenerator, rows: int) -> Tensor:
    return torch.randn(rows, generator.shape.noise)
