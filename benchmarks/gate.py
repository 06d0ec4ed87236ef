"""`make bench-gate`: is the gate right about figures, and is promotion right when four promote at once?

Figures, the statistics first. Two related models on 5,000 test users are drawn from one law (below); the gate compares
them with `register`'s own parameters.

* `aa_promotion_rate`: share of 1,000 comparisons of two equally good models in which the gate calls one *better*;
  1 - confidence is the most that is allowed, (1 - confidence) / 2 is expected;
* `power_5pct`: share of 400 comparisons in which a true gain of 5 % in NDCG@10 is called better;
* `power_5pct_unrelated`: the same of two models that agree less, as a teacher and a student do;
* `aa_promoted_rate`, `fallen_promoted_rate`: share of equal models that are promoted (as not inferior), and of models
  5 % worse that are;
* `wrong_champions`: of 50 rounds in which four processes judge and promote their versions at once, those that end with
  another champion than the best of the four, or with an alias that is not where the log says;
* `duplicate_versions`: versions beyond one of a run that 20 processes register at once, one of them killed by -9 at
  each step first;
* `rollback_s`: wall time of `warmstart models rollback`, median of 5.

The law: users differ in difficulty (normal), each model adds noise of its own, the rank of the held-out item is
log-normal. Mean NDCG@10 0.107, and a correlation of NDCG@10 between the models of 0.92, are what the served model and
its dense student have on world:small, domain harbour; 0.87 is what the served model and its teacher have there.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import yaml
from figures import Figure, write_figures

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pipeline.evaluation.evidence import Evidence
from pipeline.evaluation.gate import Candidate, Rules, judge
from pipeline.evaluation.verdict import Verdict
from pipeline.registry.champion import model_name
from pipeline.settings import CHECKOUT, settings
from tests.registry import killed
from tests.registry_fixture import Registry, running_registry

USERS, COMPARISONS, POWER_COMPARISONS, ROUNDS, PROMOTERS = 5000, 1000, 400, 50, 4
SPREAD = 1.9  # of the logarithm of a rank
RELATED, UNRELATED = 0.975, 0.945  # correlation of the log-ranks; of NDCG@10 0.92 and 0.87
CENTRE = 3.75  # of the logarithm of a rank: mean NDCG@10 0.107
POPULAR = 6.0  # the same of popularity


def main() -> None:
    """Run the benchmark and write its figures."""
    figures = statistics_of_the_gate()
    with tempfile.TemporaryDirectory(prefix="warmstart-bench-gate-") as scratch:
        home = settings()
        with running_registry(Path(scratch)) as registry:
            figures += [
                ("wrong_champions", wrong_champions(registry), f"of {ROUNDS} rounds"),
                ("duplicate_versions", duplicate_versions(registry, Path(scratch)), "versions"),
                ("rollback_s", rollback_seconds(registry), "s"),
            ]
    write_figures("gate", figures, home)


def statistics_of_the_gate() -> list[Figure]:
    """The gate against a known truth."""
    given = yaml.safe_load((CHECKOUT / "params.yaml").read_text())["register"]
    rules = Rules(given["noninferiority_margin"], given["confidence"], {"user warm": 0.05, "user cold": 0.1}, 200)
    equal = [one_night(seed, 1.0, RELATED, rules) for seed in range(COMPARISONS)]
    better = [one_night(seed, 1.05, RELATED, rules) for seed in range(POWER_COMPARISONS)]
    unrelated = [one_night(seed, 1.05, UNRELATED, rules) for seed in range(POWER_COMPARISONS)]
    worse = [one_night(seed, 0.95, RELATED, rules) for seed in range(POWER_COMPARISONS)]
    a, b, _ = figures_of(0, 1.0, RELATED, users=200_000)
    return [
        (
            "aa_promotion_rate",
            share(v.better and v.verdict == "promote" for v in equal),
            f"≤ {1 - given['confidence']:.2f}",
        ),
        ("power_5pct", share(v.better and v.verdict == "promote" for v in better), "≥ 0.90"),
        ("power_5pct_unrelated", share(v.better and v.verdict == "promote" for v in unrelated), "share"),
        ("aa_promoted_rate", share(v.verdict == "promote" for v in equal), "share"),
        ("fallen_promoted_rate", share(v.verdict == "promote" for v in worse), "share"),
        ("ndcg10", float(a.mean()), "NDCG@10"),
        ("correlation", float(np.corrcoef(a, b)[0, 1]), "of NDCG@10"),
    ]


def one_night(seed: int, gain: float, correlation: float, rules: Rules) -> Verdict:
    """The verdict on a challenger whose true NDCG@10 is `gain` times the champion's."""
    ours, theirs, popular = figures_of(seed, gain, correlation)
    place = np.arange(len(ours))
    slices = {"user cold": place % 5 == 0, "user warm": place % 5 != 0}
    evidence = Evidence("set", "protocol", place, {"served": ours, "popularity": popular}, ("popularity",), slices)
    champion = Evidence("set", "protocol", place, {"served": theirs})
    new, old = Candidate("rec-t", 2, "new", "2026-01-02"), Candidate("rec-t", 1, "old", "2026-01-01")
    return judge(new, evidence, old, champion, rules)


def figures_of(seed: int, gain: float, correlation: float, users: int = USERS) -> tuple[np.ndarray, ...]:
    """NDCG@10 of challenger, champion and popularity on the same users, (users,) each."""
    draws = np.random.default_rng([seed, round(gain * 100)])
    difficulty, *noise = draws.normal(size=(4, users))
    mixed = [np.sqrt(correlation) * difficulty + np.sqrt(1 - correlation) * own for own in noise]
    return tuple(
        ndcg(centre + SPREAD * one) for centre, one in zip((centre_of(gain), CENTRE, POPULAR), mixed, strict=True)
    )


def ndcg(log_rank: np.ndarray) -> np.ndarray:
    """NDCG@10 of log-normal ranks."""
    rank = np.maximum(1, np.ceil(np.exp(log_rank)))
    return np.where(rank <= 10, 1 / np.log2(1 + rank), 0.0)


def expected(centre: float) -> float:
    """The true mean NDCG@10 of a model, by the law itself."""
    from scipy.stats import norm

    edges = norm.cdf((np.log(np.arange(0, 11, dtype=float).clip(1e-300)) - centre) / SPREAD)
    return float((np.diff(edges) / np.log2(np.arange(2, 12))).sum())


def centre_of(gain: float) -> float:
    """The centre at which the true NDCG@10 is `gain` times that of `CENTRE`; bisection."""
    low, high, wanted = CENTRE - 2, CENTRE + 2, gain * expected(CENTRE)
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if expected(middle) > wanted else (low, middle)
    return (low + high) / 2


def share(called) -> float:  # type: ignore[no-untyped-def]
    """Share of True."""
    return float(np.mean(list(called)))


def wrong_champions(registry: Registry) -> int:
    """Rounds that did not end with the best of the four, or whose alias is not the log's."""
    wrong = 0
    for seed in range(ROUNDS):
        target = registry.new_target()
        draws = np.random.default_rng(seed)
        qualities = {registry.add_version(target, f"run-{n}"): float(draws.random()) for n in range(PROMOTERS)}
        children = [killed.start(killed.compete, target, qualities, own) for own in qualities]
        for child in children:
            child.join(120)
        best = max(qualities, key=lambda version: qualities[version])
        log = registry.log(target)
        ends = {child.exitcode for child in children}
        wrong += ends != {0} or not log or log[-1].to_version != best or registry.alias(target) != best
    return wrong


def duplicate_versions(registry: Registry, scratch: Path) -> int:
    """Versions beyond the first, of one run registered by many."""
    served = killed.smallest_model(scratch / "served")
    target = registry.new_target()
    for step in killed.REGISTER_STEPS:
        killed.run(killed.register, str(served), target, "run-1", kill_at=step)
    children = [killed.start(killed.register, str(served), target, "run-1") for _ in range(20)]
    for child in children:
        child.join(240)
    assert {child.exitcode for child in children} == {0}
    return len(registry.rest.versions(model_name(target))) - 1


def rollback_seconds(registry: Registry) -> float:
    """Median wall time of the command."""
    target = registry.new_target()
    for number in range(1, 8):
        killed.run(killed.decide, target, registry.add_version(target, f"run-{number}"), f"run-{number}")
    command = [str(Path(sys.executable).with_name("warmstart")), "models", "rollback", target, "--reason", "bench"]
    spent = []
    for _ in range(5):
        began = time.monotonic()
        subprocess.run(command, check=True, cwd=CHECKOUT, env=os.environ, capture_output=True)
        spent.append(time.monotonic() - began)
    return statistics.median(spent)


if __name__ == "__main__":
    main()
