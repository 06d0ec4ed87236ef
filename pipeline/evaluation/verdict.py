"""A verdict of the gate: the decision, its reasons, the table behind it, and a hash over all of it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Decision = Literal["promote", "hold", "refuse"]
Status = Literal["passed", "failed", "too few to judge", "no limit", "cannot be judged"]


@dataclass(frozen=True)
class Comparison:
    """Challenger minus `against` in NDCG@10 over the same users.

    Attributes:
        against: "popularity", another baseline, or "champion".
        part: the part of the users: "all", or a slice such as "user cold".
        challenger, other: the two means; difference: theirs; low, high: its interval; n: users.
        limit: what the judged end of it (or the difference itself, on slices) may not fall below; None: not limited.
    """

    against: str
    part: str
    challenger: float
    other: float
    difference: float
    low: float
    high: float
    n: int
    limit: float | None
    status: Status


@dataclass(frozen=True)
class Budget:
    """A figure of the model itself against its limit; a limit of None is no limit."""

    name: str
    unit: str
    found: float | None
    limit: float | None
    status: Status


@dataclass(frozen=True)
class Verdict:
    """The gate's answer.

    Attributes:
        verdict: promote, hold or refuse.
        better: the interval against the champion lies wholly above 0; False without a champion.
        model, version: the challenger.
        champion: the champion's version that it was judged against, None when there is none.
        test_set, protocol: of the evidence.
        rules: what it was judged by.
    """

    verdict: Decision
    reasons: list[str]
    model: str = ""
    version: int | None = None
    champion: int | None = None
    better: bool = False
    test_set: str = ""
    protocol: str = ""
    rules: dict[str, Any] = field(default_factory=dict)
    comparisons: list[Comparison] = field(default_factory=list)
    budgets: list[Budget] = field(default_factory=list)

    @property
    def sha256(self) -> str:
        """Over the canonical JSON of everything else: what the promotion log refers to."""
        text = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def as_dict(self) -> dict[str, Any]:
        """As JSON-ready dictionaries, with the hash."""
        return asdict(self) | {"sha256": self.sha256}
