"""Paired bootstrap of a mean difference, exact and fast where the figures take few values.

A bootstrap sample of n users is a multinomial draw of how often each *value* of the difference occurs. NDCG@10 of one
held-out item takes eleven values, so a difference takes at most 111, whatever n is: 2,000 resamples of 20,000 users
take milliseconds, and the distribution is the same as that of drawing users one by one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.floating[Any]]]
RESAMPLES = 2000


@dataclass(frozen=True)
class Difference:
    """ours - theirs over the same n users: both means, the mean difference and its percentile interval."""

    ours: float
    theirs: float
    value: float
    low: float
    high: float
    n: int


def paired_bootstrap(ours: Array, theirs: Array, confidence: float, seed: int) -> Difference:
    """The two-sided percentile interval (Efron & Tibshirani 1993, ch. 13) of the mean difference.

    Args:
        ours, theirs: finite, (n,), n > 0, the same users in the same order.
        confidence: e.g. 0.95; the difference of two equal models lies above 0 in about (1 - confidence) / 2 of cases.
        seed: of the resampling.
    """
    difference = np.asarray(ours, dtype=np.float64) - np.asarray(theirs, dtype=np.float64)  # (n,)
    n = len(difference)
    # 0.63093 - 0.63093 of two libraries may be 1e-17: twelve digits are one value
    values, counts = np.unique(difference.round(12), return_counts=True)  # (k,), (k,)
    drawn = np.random.default_rng(seed).multinomial(n, counts / n, size=RESAMPLES)  # (RESAMPLES, k)
    tail = (1 - confidence) / 2
    low, high = np.quantile(drawn @ values / n, [tail, 1 - tail])
    return Difference(
        float(np.mean(ours)), float(np.mean(theirs)), float(difference.mean()), float(low), float(high), n
    )
