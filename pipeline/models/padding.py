"""Lists of item indices as the rectangles a model reads. Numpy only; serving imports this without torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Items = Sequence[int] | npt.NDArray[Any]


def left_padded(histories: Sequence[Items], max_length: int) -> npt.NDArray[np.int64]:
    """The last `max_length` items of each history: [B, longest, at least 1], 0 on the left."""
    longest = max((min(len(history), max_length) for history in histories), default=0)
    padded = np.zeros((len(histories), max(longest, 1)), dtype=np.int64)
    for row, history in enumerate(histories):
        recent = history[-max_length:]
        if len(recent):
            padded[row, -len(recent) :] = recent
    return padded


def right_padded(lists: Sequence[Items]) -> npt.NDArray[np.int64]:
    """All items of each list: [B, longest, at least 1], 0 on the right."""
    padded = np.zeros((len(lists), max([1, *map(len, lists)])), dtype=np.int64)
    for row, items in enumerate(lists):
        padded[row, : len(items)] = items
    return padded
