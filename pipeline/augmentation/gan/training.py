"""The way of the generator through its three phases.

    trained = GanTraining(shape, sources, target, plan, scratch).run()

From the end of likelihood on, the same few hundred conditions are answered at regular looks; of all looks the one with
the smallest energy distance to real sequences is kept, and a collapse or divergence ends training.

Every step draws from the seed and its own number, and a checkpoint holds the rest: killed anywhere and called again, it
ends with the same weights, bit for bit on a CPU.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pipeline.augmentation.gan.look import Look
from pipeline.augmentation.gan.losses import critic_loss, generator_loss, likelihood_loss, make_pair
from pipeline.augmentation.gan.plan import GanPlan
from pipeline.augmentation.gan.real_sequences import RealSequences
from pipeline.augmentation.gan.state import GanState
from pipeline.augmentation.gan.windows import Windows, draw_windows
from pipeline.models.critic import Critic
from pipeline.models.generator import GeneratorShape, SequenceGenerator
from pipeline.training.randomness import generator as draws_for
from pipeline.training.randomness import seed_torch

log = logging.getLogger(__name__)

CHECKPOINT_SECONDS = 20.0  # has no influence on the result
CHECK_EVERY = 10  # steps
MONITORED = 256  # sequences of a look


@dataclass(frozen=True)
class Trained:
    """What training ended with.

    Attributes:
        generator: the best look's; None: the first look already found a collapse or divergence.
        critic: as it stood at the end.
        history: one row a look: step, coverage, distance, gap, loss.
        kept: the step whose weights are kept; -1: none.
        stopped: why it ended early, in words; None: it did not.
    """

    generator: SequenceGenerator | None
    critic: Critic
    history: list[dict[str, Any]]
    kept: int
    stopped: str | None


class GanTraining:
    """One training under way."""

    def __init__(
        self,
        shape: GeneratorShape,
        sources: Sequence[RealSequences],
        target: RealSequences,
        plan: GanPlan,
        scratch: Path,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """Args:
        sources: one at least where the plan has steps for them; they take turns.
        scratch: a folder of this training's own for checkpoints.
        check: called every few steps; what it raises ends the training.
        """
        self.plan, self.sources, self.target, self.scratch, self.check = plan, [*sources], target, scratch, check
        self.state = GanState(shape, plan)
        self._monitored = self._windows(target, MONITORED, "monitored")
        if self.state.restore(scratch):
            log.info("%s: continues at step %d", plan.name, self.state.progress.step)

    def run(self) -> Trained:
        """Train to the end, or to a collapse or divergence."""
        progress, plan = self.state.progress, self.plan
        saved = time.monotonic()
        if plan.looks_after(0) and not progress.history:
            self._look()
        while progress.step < plan.steps and progress.stopped is None:
            seed_torch(plan.seed, plan.name, "step", progress.step)
            if plan.phase(progress.step) == "adversarial":
                self._against_critic()
            else:
                self._by_likelihood()
            progress.step += 1
            if plan.looks_after(progress.step):
                self._look()
            if progress.step % CHECK_EVERY == 0:
                self.check()
            if time.monotonic() - saved >= CHECKPOINT_SECONDS:
                self.state.save(self.scratch)
                saved = time.monotonic()
        self.state.save(self.scratch)
        return self._trained()

    def _by_likelihood(self) -> None:
        state, step = self.state, self.state.progress.step
        in_turn = self.plan.phase(step) == "sources"
        real = self.sources[step % len(self.sources)] if in_turn else self.target
        for group in state.optimizers["likelihood"].param_groups:
            group["lr"] = self.plan.likelihood_rate(step)
        windows = self._windows(real, self.plan.batch, step)
        state.progress.loss = state.descend("likelihood", likelihood_loss(state.generator, real, windows))

    def _against_critic(self) -> None:
        plan, state, step, real = self.plan, self.state, self.state.progress.step, self.target
        for turn in range(plan.critic_steps):
            windows = self._windows(real, plan.batch, step, turn)
            state.descend("critic", critic_loss(state.critic, state.generator, real, windows, plan))
        windows = self._windows(real, plan.batch, step, plan.critic_steps)
        loss = generator_loss(state.generator, state.critic, real, windows, plan)
        state.progress.loss = state.descend("generator", loss)

    def _look(self) -> None:
        plan, state, progress = self.plan, self.state, self.state.progress
        seed_torch(plan.seed, plan.name, "look")  # the same draws at every look: looks are compared
        with torch.no_grad():
            pair = make_pair(state.generator, self.target, self._monitored, plan.temperature, given=False)
        look = Look.at(progress.step, pair, state.critic, progress.loss)
        progress.history.append(look.to_json())
        log.info(
            "%s: step %d/%d, coverage %.2f, distance %.4f, gap %.2f, loss %.3f",
            plan.name, look.step, plan.steps, look.coverage, look.distance, look.gap, look.loss,
        )  # fmt: skip
        progress.stopped = look.fault(plan)
        if progress.stopped:
            log.warning("%s: %s", plan.name, progress.stopped)
        elif look.distance < progress.best_distance:
            state.keep(look.distance)

    def _trained(self) -> Trained:
        state, progress = self.state, self.state.progress
        generator = None
        if state.best:
            state.generator.load_state_dict(state.best)
            generator = state.generator.eval()
        return Trained(generator, state.critic.eval(), progress.history, progress.best_step, progress.stopped)

    def _windows(self, real: RealSequences, size: int, *names: int | str) -> Windows:
        draws = draws_for(self.plan.seed, self.plan.name, real.name, *names)
        return draw_windows(real, size, self.plan.longest, draws)
