"""The graph of a catalogue that is packed on the disk, and of what comes behind it.

It has another input where the one of floats has `vectors`:

    in   added               float32 [n, D]          rows behind those of the export; left out: none

The rows of the export are constants of few bits: a runtime unpacks them once, at loading, and a request costs what it
costs in floats, or less where scores are made in integers (`pipeline.compression.integer_scores`). A new item is a new
row as before, and not rounded. `ServedModel` knows which input is meant, its callers see no difference.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, cat, nn, where

from pipeline.compression.integer_scores import integer_scores
from pipeline.compression.served_graph import ServedGraph
from pipeline.models.recommender import SequentialRecommender
from pipeline.training.domains import Domain


class FixedRows(ServedGraph, ABC):
    """A `ServedGraph` whose catalogue can grow, not change.

    Attributes:
        vectors: the catalogue as it is after rounding.
        scores_in_integers: of the rows of the export; those behind are scored in floats.
    """

    def __init__(self, model: SequentialRecommender, domain: Domain, top_k: int, scores_in_integers: bool) -> None:
        super().__init__(model, domain, top_k)
        self.scores_in_integers = scores_in_integers

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
        rows = self.unpacked(*constants)
        scores = integer_scores(state, rows) if self.scores_in_integers else state @ rows.T
        return cat([scores, state @ added.T], dim=1)
