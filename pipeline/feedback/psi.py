"""Population stability index: how far a distribution has moved.

    PSI = Σ_b (p_b − q_b) · ln(p_b / q_b)

over bins b (N. Siddiqi, Credit Risk Scorecards, Wiley 2006: below 0.1 stable, above 0.25 shifted). Of two samples of
the same distribution it is about (1/n + 1/m) · χ² with B − 1 degrees of freedom (B. Yurdakul, J. Naranjo, Statistical
properties of the population stability index, Journal of Risk Model Validation 14(4), 2020), so that few events alone
reach 0.25: what counts as drift must also be beyond what chance does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SHIFTED = 0.25
CONFIDENCE = 0.999  # one false alarm in a thousand looks at one feature
SMOOTHING = 0.5  # counted in every bin (Krichevsky and Trofimov 1981), or an empty one would be infinite


@dataclass(frozen=True)
class Shift:
    """One feature, before and now.

    Attributes:
        bins: (name, share before, share now), the shares after smoothing.
        psi: see the module.
        chance: what PSI stays below by chance alone, with `CONFIDENCE`.
    """

    feature: str
    bins: tuple[tuple[str, float, float], ...]
    psi: float
    chance: float

    @property
    def shifted(self) -> bool:
        """Beyond the usual limit and beyond chance."""
        return self.psi > max(SHIFTED, self.chance)


def shift_of(feature: str, before: Sequence[str], now: Sequence[str]) -> Shift:
    """PSI of a feature whose values are bins already; 0 where one of the samples is empty."""
    from scipy.stats import chi2

    counts = Counter(before), Counter(now)
    names = sorted(set(before) | set(now))
    if not before or not now or len(names) < 2:
        return Shift(feature, tuple((name, 1.0, 1.0) for name in names), 0.0, 0.0)
    p, q = (np.array([count[name] + SMOOTHING for name in names]) for count in counts)
    p, q = p / p.sum(), q / q.sum()
    psi = float(((p - q) * np.log(p / q)).sum())
    chance = float(chi2.ppf(CONFIDENCE, len(names) - 1) * (1 / len(before) + 1 / len(now)))
    shares = zip(names, p.tolist(), q.tolist(), strict=True)
    return Shift(feature, tuple((name, b, n) for name, b, n in shares), psi, chance)
