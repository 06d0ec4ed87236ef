"""Codes of items for a coded table: product quantisation of vectors that are known before training.

Of a student with its teacher these are the teacher's item vectors. The student starts from the pieces too, which is
from its teacher's vectors in short. Without a teacher they are the factors of users × items, as RecJPQ has them (arXiv
2312.06165), and the pieces start at random.

The leading directions are dealt out to the parts in turn, and k-means in each finds the pieces (Jégou and others,
"Product Quantization for Nearest Neighbor Search", IEEE PAMI 2011).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

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
    found = [k_means(along[:, part::parts].contiguous(), codes) for part in range(parts)]
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
def give_codes(student: SequentialRecommender, domain: str, catalogue: Catalogue, vectors: Tensor, start: bool) -> None:
    """Set the codes of a student's coded table from vectors of one domain's items.

    Args:
        catalogue: of the domain; items outside of training keep code 0, which nobody reads.
        vectors: float32 [n_items + 1, D].
        start: set the pieces too.
    """
    table = student.items.ids
    assert isinstance(table, CodedRows)
    trained = torch.nonzero(catalogue.trained).flatten()
    if len(trained):
        parts, codes, piece = table.weight.shape
        found, pieces = codes_of(vectors[trained].cpu(), parts, codes, parts * piece)
        table.codes[student.items.first_row[domain] + trained] = found.to(table.codes.device)
        if start:
            table.weight.copy_(pieces)
