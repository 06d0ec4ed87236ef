"""Codes of items for a coded table: product quantisation of vectors that are known before training.

Of a student with its teacher these are the teacher's item vectors. The student starts from the pieces too, which is
from its teacher's vectors in short. Without a teacher they are the factors of users × items, as RecJPQ has them (arXiv
2312.06165), and the pieces start at random.

Directions are dealt out to the parts, and k-means in each finds the pieces (Jégou and others, "Product Quantization for
Nearest Neighbor Search", IEEE PAMI 2011): leading ones in turn, those of a teacher so that all parts are as hard, and
the nearest piece is the one that changes scores least.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pipeline.compression.score_directions import ScoreDirections
from pipeline.data.training_set import DomainData
from pipeline.models.item_encoder import Catalogue
from pipeline.models.item_table import CodedRows
from pipeline.models.recommender import SequentialRecommender

ROUNDS = 15  # of k-means
ROWS_AT_ONCE = 4096


def codes_of(vectors: Tensor, parts: int, codes: int, width: int) -> tuple[Tensor, Tensor]:
    """Codes, uint8 [m, parts], and pieces, float32 [parts, codes, width / parts].

    The pieces of an item side by side are its vector in its `width` leading directions, of which part p has p,
    p + parts, …; where there are fewer directions, zeros stand for the others. The vectors' mean is left out: it is in
    the scores of all items alike.

    Args:
        vectors: float32 [m, D].
        parts: must divide `width`.
        codes: at most 256.
    """
    centred = (vectors - vectors.mean(0)).double()
    left, size, _ = torch.linalg.svd(centred, full_matrices=False)
    # a vector and its opposite are the same direction: the sign is settled, so that every machine gets the same codes
    largest = left.abs().argmax(0)
    along = left * size * left[largest, torch.arange(left.shape[1])].sign()  # (m, min(m, D))
    along = torch.nn.functional.pad(along, (0, max(0, width - along.shape[1])))[:, :width].float()
    return _coded(along[:, [d for part in range(parts) for d in range(part, width, parts)]], parts, codes)


def codes_for_scores(told: ScoreDirections, parts: int, codes: int) -> tuple[Tensor, Tensor]:
    """The same of a teacher's vectors; pieces are as long as the vectors, codes are chosen by scores.

    Args:
        told: in as many directions as pieces of an item have numbers.
        parts: must divide them.
        codes: at most 256.
    """
    order = dealt(told.along.var(0, correction=0), parts)
    found, pieces = _coded(told.along[:, order], parts, codes)
    return found, pieces * told.lengths[order].view(parts, 1, -1)


def dealt(variances: Tensor, parts: int) -> list[int]:
    """Directions, part by part, so that the parts' products of variances are near each other.

    The widest that is left goes to the part with the smallest product that has room (Ge and others, "Optimized Product
    Quantization", IEEE PAMI 2014, §4.2).
    """
    size, least = len(variances) // parts, max(float(variances.max()) * 1e-12, 1e-30)
    logs = variances.double().clamp(min=least).log()
    above = (logs - logs.min() + 1).tolist()  # all above 0: a part with more directions is no easier
    bins: list[list[int]] = [[] for _ in range(parts)]
    for direction in logs.argsort(descending=True, stable=True).tolist():
        room = [part for part in bins if len(part) < size]
        min(room, key=lambda part: sum(above[d] for d in part)).append(direction)
    return [direction for part in bins for direction in part]


def _coded(vectors: Tensor, parts: int, codes: int) -> tuple[Tensor, Tensor]:
    found = [k_means(some.contiguous(), codes) for some in vectors.chunk(parts, dim=1)]
    return torch.stack([owner for _, owner in found], dim=1).to(torch.uint8), torch.stack([c for c, _ in found])


def k_means(points: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Centres, float32 [k, n], and the nearest one, int64 [m], of points [m, n]; the same ones every time."""
    order = torch.randperm(len(points), generator=torch.Generator().manual_seed(0))
    centres = points[order[torch.arange(k) % len(points)]]
    for _ in range(ROUNDS):
        owner = nearest(points, centres)
        members = torch.bincount(owner, minlength=k)[:, None]
        sums = torch.zeros_like(centres).index_add_(0, owner, points)
        centres = torch.where(members > 0, sums / members.clamp(min=1), centres)
    return centres, nearest(points, centres)


def nearest(points: Tensor, centres: Tensor) -> Tensor:
    """int64 [m]: the nearest of centres [k, n] to each of points [m, n], of equal ones the first."""
    lengths = centres.square().sum(1)
    return torch.cat([(lengths - 2 * some @ centres.T).argmin(1) for some in points.split(ROWS_AT_ONCE)])


def factors(data: DomainData, rank: int) -> Tensor:
    """Items by who took them: the leading `rank` factors of users × items at most, float32 [n_items + 1, rank].

    Draws from torch's generator.
    """
    users = np.repeat(np.arange(len(data.offsets) - 1), np.diff(data.offsets))
    places = torch.from_numpy(np.stack([users, np.asarray(data.items)]).astype(np.int64))
    shape = (len(data.offsets) - 1, data.n_items + 1)
    taken = torch.sparse_coo_tensor(places, torch.ones(len(data.items)), shape, check_invariants=True)
    _, size, items = torch.svd_lowrank(taken, q=min(rank, *taken.shape), niter=4)
    return items * size


@torch.no_grad()
def give_codes(
    student: SequentialRecommender, domain: str, catalogue: Catalogue, vectors: Tensor | ScoreDirections
) -> None:
    """Set the codes of a student's coded table from vectors of one domain's items; of a teacher's the pieces too.

    Args:
        catalogue: of the domain; items outside of training keep code 0, which nobody reads.
        vectors: float32 [n_items + 1, D], or a teacher's, of the items in training alone.
    """
    table = student.items.ids
    assert isinstance(table, CodedRows)
    trained = torch.nonzero(catalogue.trained).flatten()
    if not len(trained):
        return
    parts, codes, piece = table.weight.shape
    if isinstance(vectors, ScoreDirections):
        found, pieces = codes_for_scores(vectors, parts, codes)
        table.weight.copy_(pieces)
    else:
        found, _ = codes_of(vectors[trained].cpu(), parts, codes, parts * piece)
    table.codes[student.items.first_row[domain] + trained] = found.to(table.codes.device)
