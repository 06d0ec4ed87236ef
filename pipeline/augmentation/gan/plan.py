"""How the generator is to be trained. No torch: the command line reads this too."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Phase = Literal["sources", "target", "adversarial"]


@dataclass(frozen=True)
class GanPlan:
    """How to train.

    Attributes:
        name, seed: for messages, draws, and to tell checkpoints apart.
        source_steps, target_steps, adversarial_steps: of the three phases.
        look_every: adversarial steps between two looks.
        batch: sequences of a step.
        longest: items of a sequence that are read.
        learning_rate: of the first two phases; decays to a tenth within each.
        adversarial_rate: of generator and critic in the third.
        critic_steps: of the critic for one of the generator.
        constraint: what keeps the critic smooth.
        penalty: weight of the gradient penalty.
        anchor: weight of the likelihood beside the critic.
        temperature: of the Gumbel-softmax.
        least_coverage: distinct items made / distinct items of as many real sequences; below it, it has collapsed.
        widest_gap: mean score of real less that of made sequences, in standard deviations; above it, it has diverged.
    """

    name: str
    seed: int
    source_steps: int
    target_steps: int
    adversarial_steps: int
    look_every: int
    batch: int
    longest: int
    learning_rate: float
    adversarial_rate: float
    critic_steps: int
    constraint: Literal["gradient_penalty", "spectral_norm"]
    penalty: float
    anchor: float
    temperature: float
    least_coverage: float
    widest_gap: float

    @property
    def warm(self) -> int:
        """Steps before the critic comes in."""
        return self.source_steps + self.target_steps

    @property
    def steps(self) -> int:
        """Of all phases."""
        return self.warm + self.adversarial_steps

    def phase(self, step: int) -> Phase:
        """Which phase a step from 0 belongs to."""
        if step < self.source_steps:
            return "sources"
        return "target" if step < self.warm else "adversarial"

    def likelihood_rate(self, step: int) -> float:
        """The learning rate of a step from 0 of the first two phases; along a cosine, anew in each."""
        first, steps = (0, self.source_steps) if step < self.source_steps else (self.source_steps, self.target_steps)
        share = (step - first) / max(1, steps)
        return self.learning_rate * (0.1 + 0.9 * 0.5 * (1.0 + math.cos(math.pi * share)))

    def looks_after(self, steps: int) -> bool:
        """Whether what is made is looked at when so many steps are taken: from the end of likelihood on."""
        past = steps - self.warm
        return past == 0 or (past > 0 and (past % self.look_every == 0 or steps == self.steps))
