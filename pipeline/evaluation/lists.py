"""What the recommended lists are like beyond accuracy: how much of the catalogue, how surprising, how popular.

All of the first k items with seen ones masked (`Ranks.top`); 0 in a list is no item.
"""

from __future__ import annotations

import numpy as np

from pipeline.data.sequences import Array


def about_lists(lists: Array, counts: Array) -> dict[str, float]:
    """All three figures of int [n, k] lists, by name; `counts` as in `novelty`."""
    return {
        "coverage": coverage(lists, max(1, len(counts) - 1)),
        "novelty": novelty(lists, counts),
        "popularity_bias": popularity_bias(lists, counts),
    }


def coverage(lists: Array, n_items: int) -> float:
    """Share of the catalogue that stands in any list.

    Args:
        lists: int [n, k], item indices.
        n_items: of the catalogue, at least 1.
    """
    return float(len(np.unique(lists[lists > 0])) / n_items)


def novelty(lists: Array, counts: Array) -> float:
    """Mean self-information of the recommended items in bits, -log2 of an item's share of the training interactions.

    One interaction more is given to every item, so that an item without any is surprising and not infinitely so
    (Zhou et al., PNAS 2010).

    Args:
        counts: int [n_items + 1], training interactions of each item; row 0 is padding.
    """
    known = counts[1:] + 1.0
    bits = np.concatenate([[0.0], -np.log2(known / known.sum())])
    return _mean(bits, lists)


def popularity_bias(lists: Array, counts: Array) -> float:
    """Mean popularity of the recommended items by that of the interactions trained on; above 1 leans to the popular.

    Average recommendation popularity (Yin et al., VLDB 2012) as a ratio.
    """
    interactions = float(counts[1:].sum())
    if interactions == 0:
        return 0.0
    expected = float((counts[1:].astype(np.float64) ** 2).sum() / interactions)
    return _mean(counts.astype(np.float64), lists) / expected


def _mean(values: Array, lists: Array) -> float:
    chosen = lists[lists > 0]
    return float(values[chosen].mean()) if len(chosen) else 0.0
