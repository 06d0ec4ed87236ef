"""The first places of a list, kept for items with training interactions: new ones take what is left.

A list's reader loses most by a miss at its top. New items that may only stand at its end are shown to as many users
at a fraction of what they would cost the others (pipeline/transfer/newcomers.py).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.data.sequences import Array


def lifted(scores: Array, is_new: Array, seen: Sequence[Array], kept: int) -> Array:
    """Scores by which no new item stands among the first `kept` places; the order is as it was otherwise.

    Args:
        scores: float [B, n_items + 1], column 0 is padding; stays as it is.
        is_new: bool [n_items + 1].
        seen: B arrays of item indices, which take no place.
        kept: 0 changes nothing; with fewer trained items left than that, all of them stand first.

    Returns:
        the same, the best `kept` trained items of a row raised above its best new one where they are not.
    """
    n_trained = int((~is_new[1:]).sum())
    if not kept or not n_trained or not is_new[1:].any():
        return scores
    left = scores.copy()
    for row, items in enumerate(seen):
        left[row, items] = -np.inf
    left[:, 0] = -np.inf
    trained = np.where(is_new, -np.inf, left)
    kept = min(kept, n_trained)
    best = np.argpartition(-trained, kept - 1, axis=1)[:, :kept]  # (B, kept)
    theirs = np.take_along_axis(trained, best, axis=1)
    lowest = np.where(np.isneginf(theirs), np.inf, theirs).min(1)
    short = np.where(is_new, left, -np.inf).max(1) + 1.0 - lowest
    found = np.array(scores)
    raised = np.where((short > 1.0) & np.isfinite(short), short, 0.0)[:, None].astype(found.dtype)
    np.put_along_axis(found, best, np.take_along_axis(found, best, axis=1) + raised, axis=1)
    return found


def in_order(is_new: Array, kept: int) -> Array:
    """The same rule for lists that are ranked already, and long enough to hold `kept` trained items.

    Args:
        is_new: bool [B, k], best first.

    Returns:
        int64 [B, k], the order in which they are to be shown.
    """
    first = ~is_new & (np.cumsum(~is_new, axis=1) <= kept)
    return np.argsort(~first, axis=1, kind="stable")
