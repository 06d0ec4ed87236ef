"""Base and transfer models as one ranking: the sum of their scores, weighted by how much of a user is known.

    score  =  Σ λᵢ(h) · Lᵢ  +  Σ μⱼ(h) · Mⱼ,      h the number of interactions in the user's history

Weights of every range of h are chosen on validation rows, whose histories are cut so that every range has some:
greedily, the best voice first, and then, with replacement, whatever helps most as long as anything does (Caruana et
al., ICML 2004, §2). All models speak in nats.

Two models are twice the price to serve, so this is an arm of the experiment and no teacher; what is served of a base
and a transfer model is one model between them (`pipeline.transfer.mixed_weights`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.augmentation.parts import Part
from pipeline.data.sequences import Array
from pipeline.evaluation.metrics import ndcg
from pipeline.evaluation.ranking import Requests, Scorer, ranks_of, requests_of

FROM = (0, 1, 3, 8)  # interactions: where the ranges of h begin
HEAD_START = 4  # how often the best voice counts before others are tried
LEAST = 100  # rows of a range that is to have weights of its own
ROUNDS = 10  # voices that are added at most, of each range


@dataclass(frozen=True)
class LateFusion:
    """A scorer of several.

    Attributes:
        voices: by name.
        weights: float64 [len(FROM), voices], rows sum to 1.
    """

    voices: Mapping[str, Scorer]
    weights: Array

    def scores(self, requests: Requests) -> Array:
        """float32 [B, n_items + 1]."""
        weights = self.weights[range_of(requests)].astype(np.float32)  # (B, voices)
        said = np.stack([voice.scores(requests) for voice in self.voices.values()], axis=2)  # (B, n_items + 1, voices)
        return np.asarray((said * weights[:, None, :]).sum(2))

    @property
    def told(self) -> dict[str, dict[str, float]]:
        """The weights of every voice, by where the range begins."""
        rows = {f"{start}+": row for start, row in zip(FROM, self.weights.tolist(), strict=True)}
        return {start: dict(zip(self.voices, row, strict=True)) for start, row in rows.items()}


def range_of(requests: Requests) -> Array:
    """int64 [B]: which range of h every history is in."""
    return np.searchsorted(FROM, [len(history) for history in requests.histories], side="right") - 1


def learned_gate(voices: Mapping[str, Scorer], parts: Sequence[Part]) -> LateFusion:
    """Choose the weights; a range with fewer than `LEAST` rows takes those of all rows.

    Args:
        voices: the strongest first, which ties go to.
        parts: of the validation split; their rows are judged by NDCG@10, seen items masked.
    """
    blocks = [requests_of(part.holdout, np.arange(len(part.rows))) for part in parts]
    wanted = np.concatenate([part.holdout.item_index for part in parts])
    seen = [history for block in blocks for history in block.histories]
    said = np.stack([np.concatenate([v.scores(block) for block in blocks]) for v in voices.values()])  # (V, n, items)
    ranges = np.concatenate([range_of(block) for block in blocks])
    weights = np.tile(_chosen(said, wanted, seen), (len(FROM), 1))
    for place in range(len(FROM)):
        rows = np.flatnonzero(ranges == place)
        if len(rows) >= LEAST:
            weights[place] = _chosen(said[:, rows], wanted[rows], [seen[row] for row in rows])
    return LateFusion(voices, weights)


def _chosen(said: Array, wanted: Array, seen: list[Array]) -> Array:
    """float64 [V], sums to 1: the best voice `HEAD_START` times, and what made the sum better, one after the other."""

    def judged(sums: Array) -> Array:
        return np.array([ndcg(ranks_of(one, wanted, seen)[0], 10).mean() for one in sums])

    alone = judged(said)
    first, best = int(alone.argmax()), float(alone.max())
    counts = np.where(np.arange(len(said)) == first, float(HEAD_START), 0.0)
    total = HEAD_START * said[first]
    for _ in range(ROUNDS):
        values = judged(total + said)
        voice = int(values.argmax())
        if values[voice] <= best:
            break
        best = float(values[voice])
        total, counts[voice] = total + said[voice], counts[voice] + 1
    return np.asarray(counts / counts.sum())
