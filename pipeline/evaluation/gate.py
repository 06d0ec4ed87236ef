"""The gate: may the challenger take the champion's place? It fails closed.

All comparisons are paired: the same test users, the same catalogue, NDCG@10 with seen items masked, a percentile
bootstrap over users. The verdict is one of

* `promote`: sure gain over popularity, not behind the strongest baseline, against the champion not worse by more than
  the margin (the interval's lower end), no guarded part of the users fallen, within its budgets, not older than the
  champion. It is called *better* only when the interval against the champion lies wholly above 0; otherwise it is
  promoted as not inferior: of two models that are as good, the one that has learned from newer data serves.
* `hold`: a sound model that has not earned the place (or already has it); the champion stays;
* `refuse`: something cannot be judged: no test users, a figure that is missing or not finite, another test set, other
  users, another protocol. A refusal is never softened by other figures.

A guarded part has fallen when its mean is below the champion's by more than its margin *and* the interval lies wholly
below 0, so that the noise of a small part does not hold every night's model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field

import numpy as np

from pipeline.evaluation.evidence import SERVED, Evidence
from pipeline.evaluation.paired import Array, Difference, paired_bootstrap
from pipeline.evaluation.verdict import Budget, Comparison, Decision, Status, Verdict

GROUPS = "user group"  # names every large user group in `Rules.guards`


@dataclass(frozen=True)
class Rules:
    """By what the gate judges.

    Attributes:
        margin: relative loss of NDCG@10 against the champion that still counts as equal.
        confidence: of the two-sided intervals; of two equal models one is called better in (1 - confidence) / 2 of
            comparisons.
        guards: relative loss that a part of the users may suffer, by part ("user cold", "user group").
        guard_users: a part with fewer test users is too small to judge.
        max_bytes, max_p50_ms, max_age_days: budgets of the served model; None is no limit.
        seed: of the bootstrap.
    """

    margin: float
    confidence: float
    guards: Mapping[str, float] = field(default_factory=dict)
    guard_users: int = 200
    max_bytes: int | None = None
    max_p50_ms: float | None = None
    max_age_days: float | None = None
    seed: int = 0


@dataclass(frozen=True)
class Candidate:
    """A registered version as the gate sees it.

    Attributes:
        model, version: its name and number.
        content: digest of its files.
        as_of: what it has learned up to, ISO 8601 UTC.
        n_bytes, p50_ms, age_days: size, median time of one request, days from as_of to the run; None when unknown.
    """

    model: str
    version: int
    content: str
    as_of: str
    n_bytes: float | None = None
    p50_ms: float | None = None
    age_days: float | None = None


def judge(
    challenger: Candidate, evidence: Evidence, champion: Candidate | None, theirs: Evidence | None, rules: Rules
) -> Verdict:
    """Judge a challenger.

    Args:
        evidence: the challenger's, with the baselines; `popularity` must be among them.
        champion: the version that serves now, None when there is none yet.
        theirs: the champion's evidence on the same test users; None with no champion, or when it is the same model.
    """
    same = champion is not None and champion.content == challenger.content
    comparisons, budgets = [], list(_budgets(challenger, rules))
    reasons = [*_refusals(evidence, None if same else champion, theirs), *_unknown(budgets)]
    decision: Decision = "refuse"
    if not reasons:
        comparisons = list(_comparisons(evidence, theirs if not same else None, rules))
        reasons = [*_standing(challenger, champion), *_failures(comparisons, budgets)]
        decision = "hold" if reasons else "promote"
    whole = next((row for row in comparisons if row.against == "champion" and row.part == "all"), None)
    better = whole is not None and whole.low > 0
    return Verdict(
        decision,
        reasons or _merits(comparisons, whole, better),
        challenger.model,
        challenger.version,
        champion.version if champion else None,
        better,
        evidence.test_set,
        evidence.protocol,
        asdict(rules),
        comparisons,
        budgets,
    )


def _refusals(ours: Evidence, champion: Candidate | None, theirs: Evidence | None) -> list[str]:
    n = len(ours.users)
    if n == 0:
        return ["there are no test users: nothing can be proven"]
    if SERVED not in ours.models:
        return ["the challenger's own figures are missing from the evaluation"]
    found = []
    if "popularity" not in ours.baselines:
        found.append("the popularity baseline is missing from the evaluation")
    for name in (SERVED, *ours.baselines):
        found += _unusable("the challenger" if name == SERVED else name, ours.models.get(name), n)
    if champion is None:
        return found
    name = f"the champion (version {champion.version})"
    if theirs is None or SERVED not in theirs.models:
        return [*found, f"{name} has no figures on this test set"]
    if not ours.test_set or ours.test_set != theirs.test_set:
        found.append(f"another test set: the challenger's is {ours.test_set[:12]}, {name}'s {theirs.test_set[:12]}")
    if not ours.protocol or ours.protocol != theirs.protocol:
        found.append(f"a changed protocol: the challenger's is {ours.protocol!r}, {name}'s {theirs.protocol!r}")
    if not np.array_equal(ours.users, theirs.users):
        found.append(f"{name} was measured on other users: {len(theirs.users)}, the challenger on {n}")
    missing = [part for part, members in ours.slices.items() if len(members) != n]
    found += [f"the slice {part!r} does not say of every user whether he is in it" for part in missing]
    if not ours.slices:
        found.append("the evaluation has no slices: no guarded part can be judged")
    return [*found, *_unusable(name, theirs.models[SERVED], n)]


def _unusable(name: str, figures: Array | None, n: int) -> list[str]:
    if figures is None:
        return [f"{name} has no figures in the evaluation"]
    if len(figures) != n:
        return [f"{name} was measured on {len(figures)} users, the challenger on {n}"]
    return [] if np.isfinite(figures).all() else [f"{name} has a figure that is not finite"]


def _comparisons(ours: Evidence, theirs: Evidence | None, rules: Rules) -> Iterator[Comparison]:
    mine = ours.models[SERVED]
    strongest = max(ours.baselines, key=lambda name: (float(ours.models[name].mean()), name))
    for name in sorted(ours.baselines):
        found = paired_bootstrap(mine, ours.models[name], rules.confidence, rules.seed)
        limit = 0.0 if name in ("popularity", strongest) else None
        passed = (name != "popularity" or found.low > 0) and (name != strongest or found.value > 0)
        yield _row(name, "all", found, limit, "no limit" if limit is None else "passed" if passed else "failed")
    if theirs is None:
        return
    other = theirs.models[SERVED]
    found = paired_bootstrap(mine, other, rules.confidence, rules.seed)
    limit = -rules.margin * found.theirs
    yield _row("champion", "all", found, limit, "passed" if found.low >= limit else "failed")
    for part, margin in _guarded(ours, rules):
        members = ours.slices.get(part, np.zeros(len(mine), dtype=bool))
        if not members.any():
            yield Comparison("champion", part, 0.0, 0.0, 0.0, 0.0, 0.0, 0, None, "too few to judge")
            continue
        found = paired_bootstrap(mine[members], other[members], rules.confidence, rules.seed)
        limit = -margin * found.theirs
        fallen = found.value < limit and found.high < 0
        few = found.n < rules.guard_users
        yield _row("champion", part, found, limit, "too few to judge" if few else "failed" if fallen else "passed")


def _guarded(ours: Evidence, rules: Rules) -> Iterator[tuple[str, float]]:
    for name, margin in rules.guards.items():
        if name == GROUPS:
            yield from ((part, margin) for part in ours.slices if part.startswith(f"{GROUPS} "))
        else:
            yield name, margin


def _row(against: str, part: str, found: Difference, limit: float | None, status: Status) -> Comparison:
    return Comparison(
        against, part, found.ours, found.theirs, found.value, found.low, found.high, found.n, limit, status
    )


def _budgets(challenger: Candidate, rules: Rules) -> Iterator[Budget]:
    for name, unit, found, limit in (
        ("size", "bytes", challenger.n_bytes, rules.max_bytes),
        ("latency p50", "ms", challenger.p50_ms, rules.max_p50_ms),
        ("age of the data", "days", challenger.age_days, rules.max_age_days),
    ):
        status: Status = "no limit"
        if limit is not None:
            status = "passed"
            if found is None or not np.isfinite(found):
                found, status = None, "cannot be judged"
            elif found > limit:
                status = "failed"
        yield Budget(name, unit, None if found is None else float(found), limit, status)


def _unknown(budgets: list[Budget]) -> list[str]:
    return [f"its {b.name} is not known, and is limited to {b.limit:g} {b.unit}"
            for b in budgets if b.status == "cannot be judged"]  # fmt: skip


def _standing(challenger: Candidate, champion: Candidate | None) -> Iterator[str]:
    """What the figures cannot know: this very model serves already, or a newer one does (a backfill)."""
    if champion is None:
        return
    if champion.content == challenger.content:
        yield f"the same model already serves as version {champion.version}"
    elif champion.as_of > challenger.as_of:
        yield f"the champion has learned up to {champion.as_of}, this model only to {challenger.as_of}"


def _failures(comparisons: list[Comparison], budgets: list[Budget]) -> Iterator[str]:
    for row in comparisons:
        if row.status != "failed":
            continue
        if row.against == "popularity" and row.low <= 0:
            yield f"no sure gain over popularity ({signed(row)})"
        elif row.against != "champion":
            yield f"behind the strongest baseline, {row.against} ({signed(row)})"
        elif row.part == "all":
            assert row.limit is not None
            yield f"may be worse than the champion by more than {_share(-row.limit, row.other)} ({signed(row)})"
        else:
            assert row.limit is not None
            share = _share(-row.limit, row.other)
            yield f"{row.part} has fallen by more than {share} against the champion ({signed(row)}, n = {row.n:,})"
    for budget in budgets:
        if budget.status == "failed":
            yield f"its {budget.name} is {budget.found:,.4g} {budget.unit}, the limit is {budget.limit:,.4g}"


def _merits(comparisons: list[Comparison], whole: Comparison | None, better: bool) -> list[str]:
    merits = [
        f"{signed(row)} over {row.against}"
        for row in comparisons
        if row.against != "champion" and row.limit is not None
    ]
    if whole is None:
        return [*merits, "the first champion"]
    word = "better than the champion" if better else "as good as the champion within the margin"
    few = [row.part for row in comparisons if row.status == "too few to judge"]
    return [*merits, f"{word} ({signed(whole)})", *([f"too few to judge: {', '.join(few)}"] if few else [])]


def _share(loss: float, of: float) -> str:
    return f"{loss / of:.0%}" if of else "0%"


def signed(row: Comparison) -> str:
    """`+0.0071 [+0.0050, +0.0092]`"""
    return f"{row.difference:+.4f} [{row.low:+.4f}, {row.high:+.4f}]"
