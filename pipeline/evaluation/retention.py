"""What a smaller model keeps of a larger one: a ratio of two means over the same users, with its interval."""

from __future__ import annotations

import numpy as np

from pipeline.data.sequences import Array
from pipeline.evaluation.statistics import Estimate


def retention(ours: Array, theirs: Array, samples: int, confidence: float, seed: int) -> Estimate | None:
    """Mean of `ours` over mean of `theirs`, with its percentile bootstrap over users, resampled together.

    Returns:
        None where there is nothing to keep: no users, or a mean of zero.
    """
    n = len(ours)
    if n == 0 or not theirs.any():
        return None
    # Figures take few values: a resample of users is a multinomial draw of how often each pair of values occurs.
    pairs, counts = np.unique(np.stack([ours, theirs], axis=1).round(12), axis=0, return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(n, counts / n, size=samples)  # (samples, pairs)
    means = drawn @ pairs  # (samples, 2)
    some = means[:, 1] > 0
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(means[some, 0] / means[some, 1], [tail, 1.0 - tail])
    return Estimate(float(ours.mean() / theirs.mean()), float(low), float(high), n)
