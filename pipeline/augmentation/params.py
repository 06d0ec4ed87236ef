"""The parameters of `augment`. No torch: the command line reads this too."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pipeline.augmentation.gan.plan import GanPlan
from pipeline.runs.contract import StageParams


class AugmentParams(StageParams):
    """Parameters of the generator, of the trial and of the gate."""

    seed: int = Field(description="of every random draw")
    enabled: bool = Field(description="false: pass through")
    budget_cpu_seconds: float = Field(gt=0, description="more CPU-seconds than these end the stage: no augmentation")
    hidden: int = Field(default=96, ge=4, description="width of generator and critic")
    noise: int = Field(default=8, ge=1, description="width of the noise that a sequence begins with")
    longest: int = Field(default=24, ge=2, description="items of a sequence, made or read")
    batch: int = Field(default=64, ge=2, description="sequences of a step")
    source_steps: int = Field(ge=0, description="by likelihood on the source domains")
    target_steps: int = Field(ge=0, description="by likelihood on the target")
    adversarial_steps: int = Field(ge=0, description="of the generator against the critic")
    look_every: int = Field(default=10, ge=1, description="adversarial steps between two looks at what is made")
    learning_rate: float = Field(default=0.003, gt=0, description="by likelihood")
    adversarial_rate: float = Field(default=0.0002, gt=0, description="of generator and critic")
    critic_steps: int = Field(default=2, ge=1, description="of the critic for one of the generator")
    constraint: Literal["gradient_penalty", "spectral_norm"] = Field(
        default="gradient_penalty", description="what keeps the critic smooth (arXiv 1704.00028, 1802.05957)"
    )
    penalty: float = Field(default=10.0, ge=0, description="weight of the gradient penalty")
    anchor: float = Field(default=1.0, ge=0, description="weight of the likelihood beside the critic")
    temperature: float = Field(default=0.7, gt=0, description="of the Gumbel-softmax")
    least_coverage: float = Field(
        default=0.5, ge=0, le=1, description="distinct items made / in as many real sequences; below: collapsed"
    )
    widest_gap: float = Field(default=3.0, gt=0, description="critic's gap in deviations; above: diverged")
    thin: int = Field(default=5, ge=1, description="a user with so many training interactions or fewer is thin")
    tail_share: float = Field(default=0.2, ge=0, le=1, description="of interactions: the items of the tail have these")
    shares: list[float] = Field(min_length=1, description="made sequences for one real one, to choose from")
    epochs: int = Field(ge=1, description="of every arm of the trial, and of both trainings from scratch")
    learning_rate_trial: float = Field(default=0.001, gt=0, description="of every arm")
    learning_rate_scratch: float = Field(default=0.003, gt=0, description="of both trainings from scratch")
    batch_users: int = Field(default=64, ge=1, description="sequences of a batch of the trial")
    dropout: float = Field(default=0.2, ge=0, lt=1, description="on embeddings and layers, in the trial")
    id_dropout: float = Field(default=0.2, ge=0, lt=1, description="chance that an item is trained by content alone")
    full_softmax_items: int = Field(default=5000, ge=0, description="as in transfer")
    sampled_items: int = Field(default=2048, ge=1, description="as in transfer")
    validation_users: int = Field(default=2000, ge=1, description="validation rows that judge")
    bootstrap_samples: int = Field(default=1000, ge=1, description="resamplings behind an interval")
    confidence: float = Field(default=0.95, gt=0.5, lt=1, description="of the intervals, before it is divided")
    guard: float = Field(default=0.02, ge=0, description="relative loss of NDCG@10 that no part may exceed")
    least_users: int = Field(default=50, ge=2, description="a thin part with fewer held-out users cannot win")

    def gan_plan(self, name: str, with_sources: bool) -> GanPlan:
        """These parameters as a plan of the generator's training; without source domains no steps on them."""
        return GanPlan(
            name=name,
            seed=self.seed,
            source_steps=self.source_steps if with_sources else 0,
            target_steps=self.target_steps,
            adversarial_steps=self.adversarial_steps,
            look_every=self.look_every,
            batch=self.batch,
            longest=self.longest,
            learning_rate=self.learning_rate,
            adversarial_rate=self.adversarial_rate,
            critic_steps=self.critic_steps,
            constraint=self.constraint,
            penalty=self.penalty,
            anchor=self.anchor,
            temperature=self.temperature,
            least_coverage=self.least_coverage,
            widest_gap=self.widest_gap,
        )
