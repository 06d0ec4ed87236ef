"""The gate: may the challenger take the champion's place? It fails closed.

All comparisons are paired: the same test users, the same catalogue, NDCG@10 with seen items masked. The intervals are
percentile bootstraps over users (Efron & Tibshirani 1993, ch. 13). A verdict is one of

* `promote`: better than popularity, not behind the strongest baseline, not worse than the champion by more than a
  margin;
* `hold`: a sound model that has not earned the place (or already has it); the champion stays;
* `refuse`: something cannot be judged: no test users, a figure that is missing or not finite, other users.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

FloatArray = np.ndarray[Any, np.dtype[np.floating[Any]]]
Decision = Literal["promote", "hold", "refuse"]


@dataclass(frozen=True)
class Comparison:
    """Challenger minus `against` in NDCG@10: mean difference over users and its interval."""

    against: str
    challenger: float
    other: float
    difference: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Verdict:
    """The gate's answer, with every reason and the table behind it."""

    verdict: Decision
    reasons: list[str]
    comparisons: list[Comparison] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """As JSON-ready dictionaries."""
        return asdict(self)


def compare(name: str, challenger: FloatArray, other: FloatArray, seed: int, confidence: float) -> Comparison:
    """Paired bootstrap of the mean difference, over users.

    Args:
        challenger, other: NDCG@10 of each user, (n,), the same users in the same order.
    """
    difference = challenger - other  # (n,)
    n = len(difference)
    rng = np.random.default_rng(seed)
    means = np.concatenate([difference[rng.integers(0, n, size=(100, n))].mean(axis=1) for _ in range(20)])  # (2000,)
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Comparison(
        name,
        float(challenger.mean()),
        float(other.mean()),
        float(difference.mean()),
        float(low),
        float(high),
        n,
    )


def judge(
    challenger: FloatArray,
    baselines: Mapping[str, FloatArray],
    champion: FloatArray | None,
    *,
    margin: float,
    confidence: float,
    seed: int,
) -> Verdict:
    """Judge a challenger.

    Args:
        challenger: NDCG@10 of each test user, (n,).
        baselines: the same of each baseline; `popularity` must be among them.
        champion: the same of the champion, None when there is none yet.
        margin: relative loss of NDCG@10 against the champion that still counts as equal.
        confidence: of the intervals, e.g. 0.95.
        seed: of the bootstrap.
    """
    refusals = _refusals(challenger, baselines, champion)
    if refusals:
        return Verdict("refuse", refusals)
    table = [compare(name, challenger, scores, seed, confidence) for name, scores in sorted(baselines.items())]
    reasons = []
    popularity = next(row for row in table if row.against == "popularity")
    strongest = max(table, key=lambda row: row.other)
    if popularity.low <= 0:
        reasons.append(f"no sure gain over popularity ({_signed(popularity)})")
    if strongest.difference <= 0:
        reasons.append(f"behind the strongest baseline, {strongest.against} ({_signed(strongest)})")
    if champion is not None:
        against = compare("champion", challenger, champion, seed, confidence)
        table.append(against)
        if against.low < -margin * against.other:
            reasons.append(f"may be worse than the champion by more than {margin:.0%} ({_signed(against)})")
    if reasons:
        return Verdict("hold", reasons, table)
    gains = [f"{_signed(popularity)} over popularity"]
    gains += [f"{_signed(strongest)} over {strongest.against}"] if strongest is not popularity else []
    gains += [f"{_signed(table[-1])} against the champion"] if champion is not None else ["the first champion"]
    return Verdict("promote", gains, table)


def _refusals(challenger: FloatArray, baselines: Mapping[str, FloatArray], champion: FloatArray | None) -> list[str]:
    if len(challenger) == 0:
        return ["there are no test users: nothing can be proven"]
    if "popularity" not in baselines:
        return ["the popularity baseline is missing from the evaluation"]
    named = {
        "the challenger": challenger,
        **baselines,
        **({} if champion is None else {"the champion": champion}),
    }
    refusals = [f"{name} has a figure that is not finite" for name, x in named.items() if not np.isfinite(x).all()]
    refusals += [
        f"{name} was measured on {len(x)} users, the challenger on {len(challenger)}"
        for name, x in named.items()
        if len(x) != len(challenger)
    ]
    return refusals


def _signed(row: Comparison) -> str:
    return f"{row.difference:+.4f} [{row.low:+.4f}, {row.high:+.4f}]"
