"""Item vectors in few directions: those that scores need, and how long each is.

The squared error of a score, over all states, is the plain one in the coordinates `along`: there vectors are cut and
rounded. A student starts in `along * lengths`, where they are as long and as alike as the teacher's: from vectors whose
lengths are those of scores it learns slowly (measured: two thirds of the teacher after an epoch, in place of .93).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

SMALLEST = 1e-6  # share of the states' variance that a direction is taken to have at least


@dataclass(frozen=True)
class ScoreDirections:
    """Vectors of m items in `rank` directions, their mean left out: it is in the scores of all items alike.

    Attributes:
        along: float32 [m, rank].
        lengths: float32 [rank]; `along * lengths` are the vectors, turned.
    """

    along: Tensor
    lengths: Tensor


def score_directions(vectors: Tensor, states: Tensor, rank: int) -> ScoreDirections:
    """Of all vectors in so many directions those with the least squared error of scores.

    Cut by the singular values of the vectors in the metric of the states' second moment; then turned so that both this
    metric and that of the vectors themselves are diagonal. Directions that do not exist are zeros.

    Args:
        vectors: float32 [m, D].
        states: [n, D], what they are multiplied with.
        rank: kept directions.
    """
    states, vectors = states.double(), vectors.double()
    sizes, ways = torch.linalg.eigh(states.T @ states / max(1, len(states)))
    sizes = sizes.clamp(min=float(sizes[-1]) * SMALLEST).sqrt()
    left, size, right = torch.linalg.svd((vectors - vectors.mean(0)) @ ways * sizes, full_matrices=False)
    back = right[:rank] / sizes  # (r, D), from what scores see to the vectors
    lengths, turn = torch.linalg.eigh(back @ back.T)
    along = left[:, :rank] * size[:rank] @ turn
    # a direction and its opposite are the same: the sign is settled, so that every machine gets the same ones
    along = along * along[along.abs().argmax(0), torch.arange(along.shape[1])].sign()
    missing = (0, rank - along.shape[1])
    lengths = lengths.clamp(min=0).sqrt()
    return ScoreDirections(*(torch.nn.functional.pad(found, missing).float() for found in (along, lengths)))
