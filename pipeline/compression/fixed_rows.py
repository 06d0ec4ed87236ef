"""The graph of a catalogue that is packed on the disk, and of what comes behind it.

It has another input where the one of floats has `vectors`:

    in   added               float32 [n, D]          rows behind those of the export; left out: none

The rows of the export are constants of few bits: a runtime unpacks them once, at loading, and a request costs what it
costs in floats. A new item is a new row as before, and not rounded. `ServedModel` knows which input is meant, its
callers see no difference.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, cat, nn, where

from pipeline.compression.served_graph import ServedGraph


class FixedRows(ServedGraph, ABC):
    """A `ServedGraph` whose catalogue can grow, not change.

    Attributes:
        vectors: the catalogue as it is after rounding.
    """

    @property
    def catalogue(self) -> dict[str, Tensor]:
        """The input that adds to the catalogue."""
        return {"added": self.vectors.new_zeros(0, self.vectors.shape[1])}

    @abstractmethod
    def unpacked(self, *constants: Tensor) -> Tensor:
        """The catalogue of the export, float32 [m + 1, D], from `constants`."""
        ...

    def read(self, history: Tensor, *catalogue: Tensor) -> Tensor:
        """See `ServedGraph.read`."""
        added, *constants = catalogue
        known = len(self.vectors)
        # one row more, so that there is one to look at where none was added
        behind = nn.functional.embedding((history - known).clamp(min=0), nn.functional.pad(added, (0, 0, 0, 1)))
        before = nn.functional.embedding(history.clamp(max=known - 1), self.unpacked(*constants))
        return where((history < known)[..., None], before, behind)

    def score(self, state: Tensor, *catalogue: Tensor) -> Tensor:
        """See `ServedGraph.score`."""
        added, *constants = catalogue
        return cat([state @ self.unpacked(*constants).T, state @ added.T], dim=1)
