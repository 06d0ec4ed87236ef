"""Ranking metrics from exact ranks; with one held-out item per user, recall@k is the hit rate HR@k.

Every metric is per user, so that intervals and paired differences can be drawn from the users.
"""

from __future__ import annotations

import numpy as np

from pipeline.data.sequences import Array
from pipeline.evaluation.ranking import Ranks

CUTOFFS = (10, 20)


def hit_rate(ranks: Array, k: int) -> Array:
    """float64 [n]: 1 where the held-out item is among the first k; equals recall@k."""
    return (ranks <= k).astype(np.float64)


def ndcg(ranks: Array, k: int) -> Array:
    """float64 [n]: 1 / log2(1 + rank) within the first k, else 0 (the ideal ranking has gain 1)."""
    return np.where(ranks <= k, 1.0 / np.log2(1.0 + ranks), 0.0)


def reciprocal_rank(ranks: Array) -> Array:
    """float64 [n]: 1 / rank; its mean is MRR over the whole catalogue."""
    return 1.0 / ranks


def auc(ranks: Array, candidates: Array) -> Array:
    """float64 [n]: share of the other candidates ranked below; 0.5 where there is no other candidate."""
    others = candidates - 1
    return np.where(others > 0, (candidates - ranks) / np.maximum(others, 1), 0.5)


def per_user(ranks: Ranks) -> dict[str, dict[str, Array]]:
    """`{"masked": {metric: float64 [n]}, "unmasked": {…}}` with hr@k, ndcg@k, mrr and auc."""
    modes = {
        "masked": (ranks.masked, ranks.candidates_masked),
        "unmasked": (ranks.unmasked, ranks.candidates_unmasked),
    }
    return {mode: _columns(found, candidates) for mode, (found, candidates) in modes.items()}


def _columns(ranks: Array, candidates: Array) -> dict[str, Array]:
    columns = {f"ndcg{k}": ndcg(ranks, k) for k in CUTOFFS}
    columns |= {f"hr{k}": hit_rate(ranks, k) for k in CUTOFFS}
    return columns | {"mrr": reciprocal_rank(ranks), "auc": auc(ranks, candidates)}
