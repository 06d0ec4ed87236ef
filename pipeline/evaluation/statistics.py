"""Bootstrap intervals over users (percentile method, Efron & Tibshirani 1993); the seed is a parameter.

Columns are resampled together, so that an interval of a difference between two models is a paired one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np

from pipeline.data.sequences import Array

CHUNK_BYTES = 32 * 2**20  # of resampling weights at a time


@dataclass(frozen=True)
class Estimate:
    """A mean over n users with its interval."""

    value: float
    low: float
    high: float
    n: int

    def to_json(self) -> dict[str, float | int]:
        """`{"value", "low", "high", "n"}`."""
        return asdict(self)


NOTHING = Estimate(0.0, 0.0, 0.0, 0)


def bootstrap(columns: Mapping[str, Array], samples: int, confidence: float, seed: int) -> dict[str, Estimate]:
    """The mean of every column with its bootstrap interval.

    Args:
        columns: each float [n], the same users in the same order.
        samples: resamplings.
        confidence: e.g. 0.95.
        seed: of the resampling.

    Returns:
        one `Estimate` a column; zeros with n = 0 where there are no users.
    """
    names = list(columns)
    if not names or len(columns[names[0]]) == 0:
        return dict.fromkeys(names, NOTHING)
    table = np.stack([np.asarray(columns[name], dtype=np.float64) for name in names], axis=1)  # (n, m)
    n = len(table)
    draws = np.random.default_rng(seed)
    means = np.empty((samples, len(names)))
    chunk = max(1, CHUNK_BYTES // (8 * n))
    for start in range(0, samples, chunk):
        rows = min(chunk, samples - start)
        picked = draws.integers(0, n, size=(rows, n))
        weights = np.stack([np.bincount(row, minlength=n) for row in picked])  # (rows, n)
        means[start : start + rows] = weights @ table / n
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(means, [tail, 1.0 - tail], axis=0)
    centre = table.mean(0)
    return {name: Estimate(float(centre[i]), float(low[i]), float(high[i]), n) for i, name in enumerate(names)}


def paired_difference(ours: Array, theirs: Array, samples: int, confidence: float, seed: int) -> Estimate:
    """Mean of `ours - theirs` over the same users, with its interval."""
    return bootstrap({"difference": ours - theirs}, samples, confidence, seed)["difference"]
