"""The gate fails closed: what it must never promote, whatever else is good."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.evaluation.evidence import Evidence
from pipeline.evaluation.gate import GROUPS, Candidate, Rules, judge
from pipeline.evaluation.paired import paired_bootstrap

GAINS = 1 / np.log2(np.arange(2, 12))  # NDCG@10 of ranks 1 to 10
RULES = Rules(margin=0.02, confidence=0.95, guards={"user cold": 0.1, "item cold": 0.1, GROUPS: 0.1}, guard_users=50)
NEW = Candidate("rec-t", 2, "new", "2026-01-02T00:00:00Z", n_bytes=1000, p50_ms=0.5, age_days=1)
OLD = Candidate("rec-t", 1, "old", "2026-01-01T00:00:00Z")
EVERY = settings(max_examples=60, deadline=None)


def ndcg(n: int, hits: float, seed: int) -> np.ndarray:
    """As of a model that finds the held-out item among its first ten for a share `hits` of the users."""
    draws = np.random.default_rng(seed)
    return np.where(draws.random(n) < hits, draws.choice(GAINS, n), 0.0)


def evidence(served: np.ndarray, **baselines: np.ndarray) -> Evidence:
    n = len(served)
    place = np.arange(n)
    return Evidence(
        "set", "protocol", place, {"served": served, **baselines}, tuple(baselines),
        {"user cold": place % 5 == 0, "user warm": place % 5 != 0, "item cold": place % 4 == 0,
         "user group age:young": place % 3 == 0},
    )  # fmt: skip


def strong(n: int = 2000, seed: int = 0) -> tuple[Evidence, Evidence]:
    """A challenger that is surely better than everything, and the champion's evidence."""
    theirs = ndcg(n, 0.2, seed)
    ours = np.where(np.random.default_rng(seed + 1).random(n) < 0.1, 1.0, theirs)
    popularity, knn = ndcg(n, 0.02, seed + 2), ndcg(n, 0.05, seed + 3)
    return evidence(ours, popularity=popularity, knn=knn), Evidence("set", "protocol", np.arange(n), {"served": theirs})


def test_a_better_model_is_promoted_and_called_better():
    ours, theirs = strong()
    found = judge(NEW, ours, OLD, theirs, RULES)
    assert (found.verdict, found.better, found.champion) == ("promote", True, 1), found.reasons
    assert found.sha256 == judge(NEW, ours, OLD, theirs, RULES).sha256
    assert found.sha256 != judge(NEW, ours, replace(OLD, version=3), theirs, RULES).sha256
    assert "better than the champion" in found.reasons[-1]


def test_the_first_champion_needs_only_the_baselines():
    ours, _ = strong()
    assert judge(NEW, ours, None, None, RULES).reasons[-1] == "the first champion"


def test_an_equal_model_is_promoted_as_not_inferior():
    ours, _ = strong()
    theirs = Evidence("set", "protocol", ours.users, {"served": ours.models["served"]})
    found = judge(NEW, ours, OLD, theirs, RULES)
    assert (found.verdict, found.better) == ("promote", False)
    assert "as good as the champion" in found.reasons[-1]


def test_the_same_model_and_an_older_one_hold():
    ours, theirs = strong()
    assert judge(replace(NEW, content="old"), ours, OLD, None, RULES).reasons == [
        "the same model already serves as version 1"
    ]
    found = judge(NEW, ours, replace(OLD, as_of="2026-06-01T00:00:00Z"), theirs, RULES)
    assert found.verdict == "hold"
    assert found.reasons == [
        "the champion has learned up to 2026-06-01T00:00:00Z, this model only to 2026-01-02T00:00:00Z"
    ]


@given(bad=st.sampled_from([np.nan, np.inf, -np.inf]), who=st.sampled_from(["served", "popularity", "knn", "champion"]),
       row=st.integers(0, 1999))  # fmt: skip
@EVERY
def test_a_figure_that_is_not_finite_is_refused(bad, who, row):
    ours, theirs = strong()
    one = theirs.models["served"] if who == "champion" else ours.models[who]
    one[row] = bad
    found = judge(NEW, ours, OLD, theirs, RULES)
    assert found.verdict == "refuse"
    assert "not finite" in " ".join(found.reasons)


@given(change=st.sampled_from(["test_set", "protocol", "users", "fewer", "none"]), seed=st.integers(0, 50))
@EVERY
def test_other_users_another_test_set_or_protocol_is_refused(change, seed):
    ours, theirs = strong(seed=seed)
    n = len(theirs.users)
    other = {
        "test_set": replace(theirs, test_set="another"),
        "protocol": replace(theirs, protocol="nothing masked"),
        "users": replace(theirs, users=theirs.users + 1),
        "fewer": replace(theirs, users=theirs.users[: n - 1], models={"served": theirs.models["served"][: n - 1]}),
        "none": None,
    }[change]
    found = judge(NEW, ours, OLD, other, RULES)
    assert found.verdict == "refuse"
    assert found.reasons


@given(part=st.sampled_from(["user cold", "item cold", "user group age:young"]), loss=st.floats(0.3, 1.0),
       seed=st.integers(0, 50))  # fmt: skip
@EVERY
def test_a_guarded_part_that_has_fallen_holds_however_good_the_rest_is(part, loss, seed):
    ours, theirs = strong(seed=seed)
    members = ours.slices[part]
    fallen = np.where(np.random.default_rng(seed).random(len(members)) < loss, 0.0, theirs.models["served"])
    ours.models["served"][members] = fallen[members]
    ours.models["served"][~members] = 1.0
    found = judge(NEW, ours, OLD, theirs, RULES)
    assert found.verdict == "hold"
    assert any(reason.startswith(f"{part} has fallen by more than 10%") for reason in found.reasons)


def test_a_part_with_few_users_is_said_to_be_too_small():
    ours, theirs = strong()
    few = np.zeros(len(ours.users), dtype=bool)
    few[:49] = True
    ours.models["served"][:49] = 0.0
    ours = replace(ours, slices={**ours.slices, "user cold": few})
    found = judge(NEW, ours, OLD, theirs, RULES)
    assert found.verdict == "promote"
    assert found.reasons[-1] == "too few to judge: user cold"
    [row] = [row for row in found.comparisons if row.part == "user cold"]
    assert (row.n, row.status) == (49, "too few to judge")


@given(gain=st.floats(-1, 1), noise=st.floats(0, 1), seed=st.integers(0, 200), n=st.integers(1, 400))
@EVERY
def test_what_is_promoted_fulfils_every_rule(gain, noise, seed, n):
    """Whatever the figures: a promotion implies the rules, checked here in another way."""
    draws = np.random.default_rng(seed)
    theirs = ndcg(n, 0.3, seed)
    ours = np.clip(theirs + gain * 0.2 + noise * draws.normal(size=n) * 0.3, 0, 1)
    base = evidence(ours, popularity=ndcg(n, 0.1, seed + 1), knn=ndcg(n, 0.2, seed + 2))
    found = judge(NEW, base, OLD, Evidence("set", "protocol", base.users, {"served": theirs}), RULES)
    if found.verdict != "promote":
        return
    assert ours.mean() > base.models["popularity"].mean()
    assert ours.mean() > base.models["knn"].mean()
    assert ours.mean() >= theirs.mean() * 0.98
    for members in base.slices.values():
        if members.sum() >= 50:
            assert ours[members].mean() >= 0.9 * theirs[members].mean() or (ours - theirs)[members].mean() > -0.1


@pytest.mark.parametrize(
    ("rule", "words"),
    [({"max_bytes": 999}, "its size is 1,000 bytes, the limit is 999"),
     ({"max_p50_ms": 0.4}, "its latency p50 is 0.5 ms, the limit is 0.4"),
     ({"max_age_days": 0.5}, "its age of the data is 1 days, the limit is 0.5")],
)  # fmt: skip
def test_budgets(rule, words):
    ours, theirs = strong()
    assert judge(NEW, ours, OLD, theirs, replace(RULES, **rule)).reasons == [words]
    unknown = replace(NEW, n_bytes=None, p50_ms=float("nan"), age_days=None)
    found = judge(unknown, ours, OLD, theirs, replace(RULES, **rule))
    assert found.verdict == "refuse"
    assert "is not known" in found.reasons[0]
    assert judge(unknown, ours, OLD, theirs, RULES).verdict == "promote"


def test_nothing_to_judge_by():
    ours, theirs = strong()
    assert judge(NEW, strong(n=0)[0], None, None, RULES).reasons == ["there are no test users: nothing can be proven"]
    assert "popularity" in judge(NEW, replace(ours, baselines=("knn",)), OLD, theirs, RULES).reasons[0]
    assert "own figures" in judge(NEW, replace(ours, models={}), OLD, theirs, RULES).reasons[0]
    assert "no slices" in judge(NEW, replace(ours, slices={}), OLD, theirs, RULES).reasons[0]
    without = Evidence("set", "protocol", theirs.users, {})
    assert "no figures on this test set" in judge(NEW, ours, OLD, without, RULES).reasons[0]


def test_behind_the_baselines():
    ours, _ = strong()
    weak = replace(ours, models={**ours.models, "served": ours.models["popularity"], "knn": ours.models["served"]})
    found = judge(NEW, weak, None, None, RULES)
    assert found.verdict == "hold"
    assert [reason.split("(")[0] for reason in found.reasons] == [
        "behind the strongest baseline, knn ", "no sure gain over popularity ",
    ]  # fmt: skip


def test_the_bootstrap_is_that_of_drawing_users_one_by_one():
    ours, theirs = ndcg(500, 0.3, 1), ndcg(500, 0.3, 2)
    found = paired_bootstrap(ours, theirs, 0.95, 0)
    draws = np.random.default_rng(1)
    means = [(ours - theirs)[draws.integers(0, 500, 500)].mean() for _ in range(4000)]
    low, high = np.quantile(means, [0.025, 0.975])
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.003)
    assert found.value == pytest.approx((ours - theirs).mean())
