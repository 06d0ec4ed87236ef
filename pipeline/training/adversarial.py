"""Training of the sequence generator: by likelihood on the sources, then on the target, then against a critic.

Text generators that are trained against a critic from the start rarely leave the noise, so likelihood comes first
(SeqGAN, arXiv 1609.05473), and stays beside the critic as an anchor. The critic is a Wasserstein one. At regular looks
the same few hundred conditions are answered: coverage tells a collapse, the critic's gap a divergence, and of all looks
the one with the smallest energy distance to real sequences is kept.

Every step draws from the seed and its own number, and a checkpoint holds the rest: killed anywhere and called again, it
ends with the same weights, bit for bit on a CPU.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from pipeline.data.sequences import Array
from pipeline.models.critic import Critic, gradient_penalty
from pipeline.models.generator import Condition, GeneratorShape, SequenceGenerator, Space
from pipeline.training.checkpoints import load_checkpoint, save_checkpoint
from pipeline.training.randomness import generator as draws_for
from pipeline.training.randomness import seed_torch

log = logging.getLogger(__name__)

Phase = Literal["sources", "target", "adversarial"]
CHECKPOINT_SECONDS = 20.0  # has no influence on the result
MONITORED = 256  # sequences of a look
NO_PROFILE = 0.1  # chance that a profile is hidden in training
ENDING = 0.4  # chance that the last item is given as the one to arrive at


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

    def phase(self, step: int) -> Phase:
        """Which phase a step from 0 belongs to."""
        if step < self.source_steps:
            return "sources"
        return "target" if step < self.source_steps + self.target_steps else "adversarial"

    @property
    def warm(self) -> int:
        """Steps before the critic comes in."""
        return self.source_steps + self.target_steps

    @property
    def steps(self) -> int:
        """Of all phases."""
        return self.warm + self.adversarial_steps


@dataclass(frozen=True)
class RealSequences:
    """The training sequences of one domain with all that a generator reads.

    Attributes:
        offsets: int64 [n_users + 1]; items: int64 [n]; users without an interaction are never drawn.
        profiles: float32 [n_users, P].
        distinct: users practically never take an item twice.
    """

    name: str
    space: Space
    offsets: Array
    items: Array
    profiles: Tensor
    distinct: bool


@dataclass(frozen=True)
class Windows:
    """Some real sequences: items int64 [B, L], left-aligned, 0 after the last; and whose they are, int64 [B]."""

    items: Tensor
    users: Tensor

    @property
    def lengths(self) -> Tensor:
        """int64 [B]."""
        return (self.items > 0).sum(1)


def draw_windows(real: RealSequences, size: int, longest: int, draws: np.random.Generator) -> Windows:
    """`size` users with their interactions, of longer histories a random stretch of `longest`."""
    lengths = np.diff(real.offsets)
    users = draws.choice(np.flatnonzero(lengths > 0), size)
    kept = np.minimum(lengths[users], longest)
    first = real.offsets[users] + np.floor(draws.random(size) * (lengths[users] - kept + 1)).astype(np.int64)
    at = np.arange(int(kept.max()))[None, :]
    items = np.where(at < kept[:, None], real.items[np.minimum(first[:, None] + at, len(real.items) - 1)], 0)
    return Windows(torch.from_numpy(items.astype(np.int64)), torch.from_numpy(users))


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


@dataclass
class Progress:
    """Where training stands; everything a checkpoint needs beside tensors."""

    step: int = 0
    best_step: int = -1
    best_distance: float = math.inf
    stopped: str | None = None
    history: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Trained:
    """What training ended with.

    Attributes:
        generator: the best look's; None: not even after likelihood did it cover the catalogue.
        critic: as it stood at the end.
        history: one row a look: step, coverage, distance, gap, loss.
        kept: the step whose weights are kept.
        stopped: why it ended early, in words; None: it did not.
    """

    generator: SequenceGenerator | None
    critic: Critic
    history: list[dict[str, Any]]
    kept: int
    stopped: str | None


class AdversarialTraining:
    """Generator, critic, optimisers and progress, saved and restored together."""

    def __init__(
        self,
        shape: GeneratorShape,
        sources: Sequence[RealSequences],
        target: RealSequences,
        plan: GanPlan,
        scratch: Path,
        on_look: Callable[[], None] = lambda: None,
    ) -> None:
        self.plan, self.sources, self.target, self.scratch = plan, [*sources], target, scratch
        self.on_look = on_look
        seed_torch(plan.seed, plan.name, "weights")
        self.generator = SequenceGenerator(shape)
        self.critic = Critic(shape, plan.constraint == "spectral_norm")
        betas = (0.5, 0.9)  # as in arXiv 1704.00028
        self.optimizers = {
            "likelihood": torch.optim.Adam(self.generator.parameters(), lr=plan.learning_rate),
            "generator": torch.optim.Adam(self.generator.parameters(), lr=plan.adversarial_rate, betas=betas),
            "critic": torch.optim.Adam(self.critic.parameters(), lr=plan.adversarial_rate, betas=betas),
        }
        self.best = self._copy()
        self.progress = Progress()
        self.loss = 0.0
        self._monitored = self._windows(target, MONITORED, "monitored")
        self._restore()

    def run(self) -> Trained:
        """Train to the end, or to a collapse or divergence."""
        state, plan = self.progress, self.plan
        saved = time.monotonic()
        while state.step < plan.steps and state.stopped is None:
            phase = plan.phase(state.step)
            seed_torch(plan.seed, plan.name, "step", state.step)
            if phase == "adversarial":
                self._against_critic()
            else:
                self._by_likelihood(phase)
            state.step += 1
            past = state.step - plan.warm
            if past == 0 or (past > 0 and (past % plan.look_every == 0 or state.step == plan.steps)):
                self._look()
            if state.step % 10 == 0:
                self.on_look()
            if time.monotonic() - saved >= CHECKPOINT_SECONDS:
                self._save()
                saved = time.monotonic()
        self._save()
        if state.best_step < 0:
            return Trained(None, self.critic, state.history, -1, state.stopped)
        self.generator.load_state_dict(self.best)
        return Trained(self.generator.eval(), self.critic.eval(), state.history, state.best_step, state.stopped)

    def _by_likelihood(self, phase: Phase) -> None:
        plan, step = self.plan, self.progress.step
        begins, steps = (0, plan.source_steps) if phase == "sources" else (plan.source_steps, plan.target_steps)
        real = self.target
        if phase == "sources" and self.sources:
            real = self.sources[step % len(self.sources)]
        optimizer = self.optimizers["likelihood"]
        share = (step - begins) / max(1, steps)
        for group in optimizer.param_groups:
            group["lr"] = plan.learning_rate * (0.1 + 0.9 * 0.5 * (1.0 + math.cos(math.pi * share)))
        optimizer.zero_grad(set_to_none=True)
        loss = self._likelihood(real, self._windows(real, plan.batch, step))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.generator.parameters(), 1.0)
        optimizer.step()
        self.loss = float(loss.detach())

    def _likelihood(self, real: RealSequences, windows: Windows) -> Tensor:
        condition, items = self._condition(real, windows)
        logits = self.generator.logits(real.space, condition, self._noise(len(items)), items)
        return functional.cross_entropy(logits, items[items > 0])

    def _against_critic(self) -> None:
        plan, step, real = self.plan, self.progress.step, self.target
        for turn in range(plan.critic_steps):
            truth, made, present, condition = self._pair(self._windows(real, plan.batch, step, turn), False)
            ending = real.space.vectors[condition.ending]
            scores = [self.critic(views, present, condition.profile, ending) for views in (truth, made)]
            loss = scores[1].mean() - scores[0].mean()
            if plan.constraint == "gradient_penalty":
                loss = loss + plan.penalty * gradient_penalty(
                    self.critic, truth, made, present, condition.profile, ending
                )
            self._descend("critic", self.critic, loss)
        windows = self._windows(real, plan.batch, step, plan.critic_steps)
        _, made, present, condition = self._pair(windows, True)
        score = self.critic(made, present, condition.profile, real.space.vectors[condition.ending])
        loss = plan.anchor * self._likelihood(real, windows) - score.mean()
        self._descend("generator", self.generator, loss)
        self.loss = float(loss.detach())

    def _descend(self, name: str, network: torch.nn.Module, loss: Tensor) -> None:
        optimizer = self.optimizers[name]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()

    def _pair(self, windows: Windows, learns: bool, cut: bool = True) -> tuple[Tensor, Tensor, Tensor, Condition]:
        """Real sequences, and what the generator makes in their place; as the critic sees them.

        Args:
            learns: whether the generator's gradients are wanted.
            cut: it is given a random part of each history; False: nothing of it.
        """
        real = self.target
        condition, items = self._condition(real, windows, cut)
        lengths = (items > 0).sum(1)
        seen = real.space.seen
        with torch.set_grad_enabled(learns):
            _, made = self.generator.generate(
                real.space, condition, self._noise(len(items)), lengths, self.plan.temperature, real.distinct, seen
            )
        return seen[items], made if learns else made.detach(), items > 0, condition

    def _condition(self, real: RealSequences, windows: Windows, cut: bool = False) -> tuple[Condition, Tensor]:
        """What a window's sequence is to be made for, and the sequence; without its last item where that is told."""
        items, lengths = windows.items, windows.lengths
        told = (torch.rand(len(items)) < ENDING) & (lengths > 1)
        last = items.gather(1, (lengths - 1)[:, None])[:, 0]
        places = torch.arange(items.shape[1])[None]
        items = torch.where(places < (lengths - told.long())[:, None], items, 0)
        items = items[:, : int((items > 0).sum(1).max())]
        profile = real.profiles[windows.users] * (torch.rand(len(items), 1) >= NO_PROFILE)
        history = torch.zeros_like(items)
        if cut:
            known = (torch.rand(len(items)) * (items > 0).sum(1)).long()  # 0 to all but one
            history = torch.where(places[:, : items.shape[1]] < known[:, None], items, 0)
        return Condition(profile, torch.where(told, last, 0), history), items

    @torch.no_grad()
    def _look(self) -> None:
        plan, state, real = self.plan, self.progress, self.target
        seed_torch(plan.seed, plan.name, "look")  # the same draws at every look: looks are compared
        truth, made, present, condition = self._pair(self._monitored, False, cut=False)
        distance = energy_distance(sequence_views(truth, present), sequence_views(made, present))
        coverage = _distinct(made, present) / max(1, _distinct(truth, present))
        ending = real.space.vectors[condition.ending]
        scores = [self.critic(views, present, condition.profile, ending) for views in (truth, made)]
        spread = float(torch.cat(scores).std()) + 1e-9
        gap = float(scores[0].mean() - scores[1].mean()) / spread
        row = {"step": state.step, "coverage": coverage, "distance": distance, "gap": gap, "loss": self.loss}
        state.history.append({name: round(value, 6) if math.isfinite(value) else None for name, value in row.items()})
        log.info(
            "%s: step %d/%d, coverage %.2f, distance %.4f, gap %.2f, loss %.3f",
            plan.name, state.step, plan.steps, coverage, distance, gap, self.loss,
        )  # fmt: skip
        first = state.step == plan.warm
        if not all(math.isfinite(value) for value in row.values()):
            state.stopped = f"a figure is not finite at step {state.step}: it has diverged"
        elif coverage < plan.least_coverage:
            state.stopped = (
                f"it covers {coverage:.0%} of the items that as many real sequences have at step {state.step}, "
                f"less than {plan.least_coverage:.0%}: it has collapsed"
            )
        elif not first and abs(gap) > plan.widest_gap:
            state.stopped = (
                f"the critic tells made from real by {gap:.1f} deviations at step {state.step}, "
                f"more than {plan.widest_gap:g}: it has diverged"
            )
        elif distance < state.best_distance:
            state.best_distance, state.best_step, self.best = distance, state.step, self._copy()
        if state.stopped:
            log.warning("%s: %s", plan.name, state.stopped)

    def _windows(self, real: RealSequences, size: int, *names: int | str) -> Windows:
        draws = draws_for(self.plan.seed, self.plan.name, real.name, *names)
        return draw_windows(real, size, self.plan.longest, draws)

    def _noise(self, rows: int) -> Tensor:
        return torch.randn(rows, self.generator.shape.noise)

    def _copy(self) -> dict[str, Tensor]:
        return {name: weight.detach().clone() for name, weight in self.generator.state_dict().items()}

    def _networks(self) -> dict[str, torch.nn.Module]:
        return {"generator": self.generator, "critic": self.critic}

    def _save(self) -> None:
        tensors = {f"best.{name}": weight for name, weight in self.best.items()}
        for kind, network in self._networks().items():
            tensors |= {f"{kind}.{name}": weight for name, weight in network.state_dict().items()}
        for kind, optimizer in self.optimizers.items():
            for place, weight in enumerate(optimizer.param_groups[0]["params"]):
                for key, value in optimizer.state.get(weight, {}).items():
                    tensors[f"optimizer.{kind}.{place}.{key}"] = value
        progress = asdict(self.progress)
        if not math.isfinite(progress["best_distance"]):
            progress["best_distance"] = None
        save_checkpoint(self.scratch, tensors, {"work": self._work(), "loss": self.loss, **progress})

    def _restore(self) -> None:
        found = load_checkpoint(self.scratch, self._work())
        if found is None:
            return
        tensors, state = found
        state.pop("work")
        self.loss = state.pop("loss")
        if state["best_distance"] is None:
            state["best_distance"] = math.inf
        self.progress = Progress(**state)
        for kind, network in self._networks().items():
            own = {n.removeprefix(f"{kind}."): t for n, t in tensors.items() if n.startswith(f"{kind}.")}
            network.load_state_dict(own)
        self.best = {n.removeprefix("best."): t for n, t in tensors.items() if n.startswith("best.")}
        for name, value in tensors.items():
            if name.startswith("optimizer."):
                _, kind, place, key = name.split(".")
                optimizer = self.optimizers[kind]
                optimizer.state[optimizer.param_groups[0]["params"][int(place)]][key] = value
        log.info("%s: continues at step %d", self.plan.name, self.progress.step)

    def _work(self) -> str:
        about = {**asdict(self.plan), "shape": self.generator.shape.to_json()}
        return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def _distinct(views: Tensor, present: Tensor) -> int:
    # an item's view is its own: as many rows as items
    return len(torch.unique(views[present], dim=0))
