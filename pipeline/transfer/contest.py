"""New items against trained ones, row by row: what a constant on the scores of all new ones would change.

Nobody's order changes within the new items nor within the others, so the first `TOP` of each are all one needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from pipeline.data.sequences import Array
from pipeline.transfer.params import TOP

ROWS_AT_ONCE = 128


@dataclass(frozen=True)
class Rows:
    """Requests, and which items are new.

    Attributes:
        states: float32 [n, S].
        wanted: int [n], item indices.
        seen: n arrays of item indices, masked.
        trained: bool [n_items + 1].
    """

    states: Tensor
    wanted: Array
    seen: Sequence[Array]
    trained: Array

    @property
    def is_new(self) -> Array:
        """bool [n], of the wanted items."""
        found: Array = ~self.trained[self.wanted]
        return found

    def best(self, vectors: Tensor, items: Array) -> Array:
        """float32 [n, TOP], the highest scores of `items`, best first, seen and wanted ones left out."""
        place = np.full(len(self.trained), -1)
        place[items] = np.arange(len(items))
        parts = []
        for start in range(0, len(self.wanted), ROWS_AT_ONCE):
            span = slice(start, start + ROWS_AT_ONCE)
            scores = (self.states[span] @ vectors[items].T).cpu().numpy()
            for row, (seen, wanted) in enumerate(zip(self.seen[span], self.wanted[span], strict=True)):
                hidden = place[np.append(seen, wanted)]
                scores[row, hidden[hidden >= 0]] = -np.inf
            parts.append(_first(scores))
        return np.concatenate(parts)

    def own(self, as_trained: Tensor, as_new: Tensor) -> Array:
        """float32 [n], the score of the wanted item, read as what it is."""
        scores = [(self.states * vectors[self.wanted]).sum(1).cpu().numpy() for vectors in (as_trained, as_new)]
        return np.where(self.is_new, scores[1], scores[0])


@dataclass(frozen=True)
class Contest:
    """The best trained and the best new items of every row.

    Attributes:
        trained, new: float [n, TOP], scores, best first; seen items and the wanted one left out.
        own: float [n], of the wanted item.
        is_new: bool [n], it is one.
        kept: first places that no new item takes.
    """

    trained: Array
    new: Array
    own: Array
    is_new: Array
    kept: int = 0

    def trained_above(self, raised: Array) -> Array:
        """int [n]: trained items that beat the wanted one (a tie does) when new ones are `raised` [n]; at most TOP."""
        own = self.own + np.where(self.is_new, raised, 0.0)
        above: Array = (self.trained >= own[:, None]).sum(1)
        return above

    def ranks(self, raised: Array) -> Array:
        """int [n]: exact up to TOP, larger below."""
        new = self.new + np.where(self.is_new, 0.0, raised)[:, None]
        above = self.trained_above(raised)
        left = np.minimum(self.kept, np.isfinite(self.trained).sum(1))  # places that trained items do take
        above = np.where(self.is_new, np.maximum(above, left), above)
        beaten_by_new = (new >= self.own[:, None]).sum(1)
        return 1 + above + np.where(~self.is_new & (above < self.kept), 0, beaten_by_new)


def _first(scores: Array) -> Array:
    """float [n, TOP], best first, -inf where fewer are left."""
    short = max(0, TOP - scores.shape[1])
    scores = np.pad(scores, ((0, 0), (0, short)), constant_values=-np.inf)
    return -np.sort(-np.partition(scores, -TOP, axis=1)[:, -TOP:], axis=1)
