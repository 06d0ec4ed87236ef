"""What may feed the fine-tuning: a sure gain on a thin part that no control has, and no loss anywhere."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.augmentation.gate import GateRules, judge
from pipeline.augmentation.parts import Part
from pipeline.augmentation.shares import best_share, cross_fitted
from pipeline.augmentation.trial import ArmFigures
from pipeline.data.training_set import Holdout

RULES = GateRules(confidence=0.95, samples=500, guard=0.02, least_users=50, seed=1)
N = 400
DRAWS = np.random.default_rng(0)
BASE = DRAWS.random(N) * 0.4


def part(name: str, thin: bool, n: int = N) -> Part:
    nothing = np.zeros(0)
    holdout = Holdout("validation", *([nothing] * 8), oracle_rank=None)
    return Part(name, holdout, np.arange(n), thin)


PARTS = [part("users with 0 interactions", True), part("users with 5 interactions", True), part("all users", False)]


def figures(gan: dict[str, float], control: dict[str, float], n: int = N) -> dict[str, dict[str, np.ndarray]]:
    """NDCG of every arm: that of "none" and a gain by part, with noise of its own."""

    def arm(gains: dict[str, float]) -> dict[str, np.ndarray]:
        noise = np.random.default_rng(5).normal(0, 0.05, n)
        return {p.name: BASE[:n] + gains.get(p.name, 0.0) + noise - noise.mean() for p in PARTS}

    return {"none": {p.name: BASE[:n] for p in PARTS}, "item-crop": arm(control), "gan": arm(gan)}


COLD = "users with 0 interactions"


def test_a_gain_of_its_own_feeds():
    verdict = judge(figures({COLD: 0.05}, {}), PARTS, RULES)
    assert verdict.feeds
    assert verdict.reasons[0].startswith(f"{COLD}: +")


def test_a_gain_that_the_control_has_too_does_not_count():
    verdict = judge(figures({COLD: 0.05}, {COLD: 0.05}), PARTS, RULES)
    assert not verdict.feeds
    assert "not surely over item-crop" in verdict.reasons[0]


def test_a_gain_of_others_than_the_thin_does_not_count():
    verdict = judge(figures({"all users": 0.05}, {}), PARTS, RULES)
    assert not verdict.feeds
    assert "no thin part gains surely" in verdict.reasons[0]


def test_a_part_that_falls_forbids_it():
    verdict = judge(figures({COLD: 0.05, "all users": -0.03}, {}), PARTS, RULES)
    assert not verdict.feeds
    assert verdict.reasons[0].startswith("all users: -")


def test_noise_does_not_feed():
    fed = 0
    for seed in range(40):
        draws = np.random.default_rng(seed)
        found = {a: {p.name: BASE + draws.normal(0, 0.1, N) for p in PARTS} for a in ("none", "item-crop", "gan")}
        fed += judge(found, PARTS, RULES).feeds
    assert fed <= 2


def test_too_few_users_cannot_win():
    few = [part(p.name, p.thin, 20) for p in PARTS]
    verdict = judge(figures({COLD: 0.2}, {}, 20), few, RULES)
    assert not verdict.feeds
    assert "20 held-out users are too few" in verdict.reasons[0]


def test_nobody_is_judged_with_a_share_he_chose():
    # each half's own best share is the one that the other half would not take
    arm = {share: ArmFigures({p.name: np.zeros(N) for p in PARTS}, 1) for share in (0.3, 1.0)}
    first = cross_fitted({0.3: arm[0.3], 1.0: ArmFigures({p.name: np.ones(N) for p in PARTS}, 1)}, PARTS, 3)
    assert all(column.min() == 1.0 for column in first.values())
    rng_half = np.random.default_rng(0).random(N) < 0.5
    split = {
        0.3: ArmFigures({p.name: rng_half.astype(float) for p in PARTS}, 1),
        1.0: ArmFigures({p.name: 1.0 - rng_half for p in PARTS}, 1),
    }
    everybody = {p.name: np.ones(N, dtype=bool) for p in PARTS}
    chosen = best_share(split, PARTS, everybody)
    assert split[chosen].ndcg[COLD].mean() == max(one.ndcg[COLD].mean() for one in split.values())
    # averaged over both halves, choosing on the other half cannot beat the true mean by choosing on noise
    assert cross_fitted(split, PARTS, 3)[COLD].mean() == pytest.approx(0.5, abs=0.1)
