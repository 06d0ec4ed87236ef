"""What a shown list is worth to a user whose true probabilities are known.

* **HR@10**: the user's next item is drawn from the truth before anything is shown; is it among the ten?
* **utility** of a list: the probability that it is, Σ p(i) over the list: HR@10 without the luck of the draw.
* **regret**: 1 - utility of what was shown / utility of the ten likeliest items; 0 is the best that anything could do.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.data.world.truth import Floats


def draw(chance: Floats, uniform: float) -> int:
    """The item that `uniform` in [0, 1) falls on. `chance` [N], sums to 1."""
    below = np.cumsum(chance)
    return int(min(np.searchsorted(below, uniform * below[-1], side="right"), np.flatnonzero(chance)[-1]))


def utility(chance: Floats, shown: Sequence[int]) -> float:
    """Probability that the next item is in the list; an item shown twice counts once."""
    return float(chance[sorted(set(shown))].sum())


def best_utility(chance: Floats, k: int) -> float:
    """Utility of the best list of k."""
    k = min(k, len(chance))
    return float(np.partition(chance, len(chance) - k)[len(chance) - k :].sum())


def regret(shown: float, best: float) -> float:
    """Share of the best utility that a list of utility `shown` leaves."""
    return 1.0 - shown / best
