"""What was found about drift, for one target: `drift.py` finds it, `drift_page.py` draws it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from pipeline.feedback.psi import Shift

LEAST_EVENTS = 100  # fewer are too few to judge


@dataclass(frozen=True)
class Online:
    """What came of the answers.

    Attributes:
        requests: answers that impressions tell of.
        hr10: of the model's answers, the share with something taken among the first ten; None without any.
        low, high: Wilson interval of it.
        fallbacks: share of answers that came from a profile or from popularity; None where impressions do not say.
    """

    requests: int
    hr10: float | None
    low: float
    high: float
    fallbacks: float | None


@dataclass(frozen=True)
class Report:
    """What was found for one target; `reasons` is empty while all is well."""

    target: str
    run_id: str
    until: str
    events: int
    shifts: tuple[Shift, ...]
    online: Online
    promised: float | None
    reasons: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """One line for a person."""
        if self.reasons:
            return "; ".join(self.reasons)
        enough = "" if self.events >= LEAST_EVENTS else f", too few to judge (at least {LEAST_EVENTS})"
        return f"no drift in {self.events:,} events{enough}"

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        shifts = [{**asdict(shift), "shifted": shift.shifted} for shift in self.shifts]
        return {**asdict(self), "shifts": shifts}
