"""May made sequences feed the fine-tuning? Only if they win what the controls do not, and nobody loses.

On some thin part the lower end of the paired interval must lie above zero, against no augmentation and against every
control; the confidence is divided among the thin parts (Bonferroni), because each is a chance to win. And no part may
have fallen: its mean below that of no augmentation by more than the guard *and* the interval, at the whole confidence,
wholly below zero, as in the gate of promotion.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from pipeline.augmentation.arms import GAN, NONE
from pipeline.augmentation.parts import Part
from pipeline.data.sequences import Array
from pipeline.evaluation.statistics import paired_difference

Figures = Mapping[str, Mapping[str, Array]]  # arm -> part -> NDCG@10 of every row


@dataclass(frozen=True)
class GateRules:
    """By what is judged.

    Attributes:
        confidence: of the two-sided intervals, before it is divided.
        samples: bootstrap resamplings.
        guard: relative loss of NDCG@10 that any part may suffer.
        least_users: fewer held-out users in a part are too few to win.
    """

    confidence: float
    samples: int
    guard: float
    least_users: int
    seed: int


@dataclass(frozen=True)
class Effect:
    """NDCG@10 of an arm less that of another on one part, over the same users."""

    part: str
    arm: str
    against: str
    ours: float
    theirs: float
    difference: float
    low: float
    high: float
    n: int

    @property
    def relative(self) -> float:
        """The difference as a share of theirs; 0 where theirs is 0."""
        return self.difference / self.theirs if self.theirs else 0.0


@dataclass(frozen=True)
class GateVerdict:
    """The answer: whether the made sequences are fed in, why, and the effects behind it."""

    feeds: bool
    reasons: tuple[str, ...]
    effects: tuple[Effect, ...]

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        return {
            "feeds": self.feeds,
            "reasons": list(self.reasons),
            "effects": [asdict(effect) | {"relative": effect.relative} for effect in self.effects],
        }


def judge(figures: Figures, parts: Sequence[Part], rules: GateRules) -> GateVerdict:
    """Judge the arm "gan".

    Args:
        figures: of every arm, "none" and "gan" among them; all others are controls.
    """
    thin = [part for part in parts if part.thin]
    level = 1.0 - (1.0 - rules.confidence) / max(1, len(thin))
    controls = [arm for arm in figures if arm not in (NONE, GAN)]
    effects = [effect_of(figures, part.name, GAN, other, rules, level) for part in parts for other in (NONE, *controls)]
    effects += [effect_of(figures, part.name, arm, NONE, rules, level) for part in parts for arm in controls]
    of = {(effect.part, effect.arm, effect.against): effect for effect in effects}
    wins, shared = [], []
    for part in thin:
        gain = of[part.name, GAN, NONE]
        if gain.low <= 0 or gain.n < rules.least_users:
            continue
        as_good = [arm for arm in controls if of[part.name, GAN, arm].low <= 0]
        if as_good:
            shared.append(f"{part.name}: {_said(gain)} over none, and not surely over {' and '.join(as_good)}")
        else:
            wins.append(f"{part.name}: {_said(gain)} over none, and surely over every control")
    against_none = [effect_of(figures, part.name, GAN, NONE, rules, rules.confidence) for part in parts]
    fallen = [
        f"{loss.part}: {_said(loss)} is more than the {rules.guard:.0%} that it may lose"
        for loss in against_none
        if loss.relative < -rules.guard and loss.high < 0
    ]
    if wins and not fallen:
        return GateVerdict(True, tuple(wins), tuple(effects))
    if fallen:
        return GateVerdict(False, tuple(fallen), tuple(effects))
    if shared:
        return GateVerdict(False, tuple(shared), tuple(effects))
    most = max((part.rows.size for part in thin), default=0)
    if most < rules.least_users:
        few = f"{most} held-out users are too few to judge by; {rules.least_users} are wanted"
        return GateVerdict(False, (few,), tuple(effects))
    best = max((of[part.name, GAN, NONE] for part in thin), key=lambda effect: effect.relative, default=None)
    most_likely = f"; the most that is seen is {best.part}: {_said(best)}" if best else ""
    return GateVerdict(False, (f"no thin part gains surely{most_likely}",), tuple(effects))


def effect_of(figures: Figures, part: str, arm: str, against: str, rules: GateRules, level: float) -> Effect:
    """The paired difference of two arms on one part, with its interval."""
    ours, theirs = figures[arm][part], figures[against][part]
    found = paired_difference(ours, theirs, rules.samples, level, rules.seed)
    return Effect(
        part, arm, against, float(np.mean(ours)), float(np.mean(theirs)), found.value, found.low, found.high, found.n
    )


def _said(effect: Effect) -> str:
    return f"{effect.relative:+.1%} [{effect.low:+.4f}, {effect.high:+.4f}]"
