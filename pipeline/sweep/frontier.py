"""The points that no other is better than in both what they cost and what they are worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def frontier(rows: Sequence[Mapping[str, Any]], cost: str, worth: str) -> list[int]:
    """Indices of the rows that no other beats: none is as cheap and better, or as good and cheaper."""

    def beats(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
        no_worse = one[cost] <= other[cost] and one[worth] >= other[worth]
        return no_worse and (one[cost] < other[cost] or one[worth] > other[worth])

    return [place for place, row in enumerate(rows) if not any(beats(other, row) for other in rows)]
