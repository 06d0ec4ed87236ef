"""Which of a user's past items carried an item: leave one of them out, and see how far its score falls.

Occlusion (Zeiler and Fergus, arXiv 1311.2901, "Visualizing and Understanding Convolutional Networks", ECCV 2014), with
past items in place of patches of a picture. It asks the model itself and assumes nothing of how it is built; what two
past items carry only together is seen at neither. Beside it stands what the two items have in common: the cosine of
their vectors, in which is their content and, for items that were trained on, who chose them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from pipeline.data.sequences import Array
from pipeline.models.padding import Items


class Carrier(NamedTuple):
    """What a past item has to do with an item.

    Attributes:
        row: of the past item in the catalogue.
        share: how much the item's score falls when the past item is taken out of the history; below 0 it rises.
        similarity: cosine of the two items' vectors, -1 to 1.
    """

    row: int
    share: float
    similarity: float


Score = Callable[[Sequence[Items], Array], Array]  # histories [B] over float32 [m + 1, D] -> float32 [B, m + 1]


def carriers(score: Score, vectors: Array, history: Items, items: Items) -> list[list[Carrier]]:
    """For each of `items` the past items, those that carried it most first.

    All occlusions are one batch over a catalogue of nothing but these items, so the cost does not grow with the
    catalogue.

    Args:
        score: the model, of one user.
        vectors: float32 [m + 1, D], the catalogue.
        history: rows of the catalogue, chronological, as long as the model reads. An item that stands in it several
            times is left out everywhere at once.
        items: rows of the catalogue.
    """
    past = list(dict.fromkeys(int(row) for row in history))
    if not past:
        return [[] for _ in items]
    rows = np.unique(np.concatenate([[0], past, np.asarray(items, dtype=np.int64)]))  # row 0 stays row 0
    few = np.ascontiguousarray(vectors[rows])
    place = {int(row): small for small, row in enumerate(rows)}
    small_history = [place[int(row)] for row in history]
    without = [[small for small in small_history if small != place[row]] for row in past]
    wanted = [place[int(row)] for row in items]
    scores = score([small_history, *without], few)[:, wanted]  # (1 + past, items)
    fall = scores[:1] - scores[1:]  # (past, items)
    lengths = np.linalg.norm(few, axis=1, keepdims=True)
    unit = np.divide(few, lengths, out=np.zeros_like(few), where=lengths > 0)
    cosine = unit[[place[row] for row in past]] @ unit[wanted].T  # (past, items)
    return [
        [Carrier(past[p], float(fall[p, i]), float(cosine[p, i])) for p in np.argsort(-fall[:, i], kind="stable")]
        for i in range(len(wanted))
    ]
