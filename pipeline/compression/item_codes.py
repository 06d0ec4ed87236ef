"""Codes of items for a coded table: alike items share pieces (RecJPQ, arXiv 2312.06165, its SVD strategy).

The paper factorises users × items; here the teacher's item vectors are factorised, which know that and the content.
Each of the leading directions is cut into bins of as many items, and an item's code there is its bin.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.models.item_encoder import Catalogue
from pipeline.models.item_table import CodedRows
from pipeline.models.recommender import SequentialRecommender


def codes_of(vectors: Tensor, parts: int, codes: int) -> Tensor:
    """uint8 [m, parts], every code of a part used about equally often.

    Args:
        vectors: float32 [m, D].
        parts: at most min(m, D) tell items apart; further ones repeat the first.
        codes: at most 256.
    """
    centred = (vectors - vectors.mean(0)).double()
    left, size, _ = torch.linalg.svd(centred, full_matrices=False)
    # a vector and its opposite are the same direction: the sign is settled, so that every machine gets the same codes
    largest = left.abs().argmax(0)
    along = left * size * left[largest, torch.arange(left.shape[1])].sign()  # (m, min(m, D))
    columns = [along[:, part % along.shape[1]] for part in range(parts)]
    ranks = [torch.argsort(torch.argsort(column, stable=True), stable=True) for column in columns]
    return torch.stack([rank * codes // len(vectors) for rank in ranks], dim=1).to(torch.uint8)


@torch.no_grad()
def give_codes(student: SequentialRecommender, domain: str, catalogue: Catalogue, teacher_vectors: Tensor) -> None:
    """Set the codes of a student's coded table from the vectors that its teacher has of one domain's trained items.

    Args:
        catalogue: of the domain; items outside of training keep code 0, which nobody reads.
        teacher_vectors: float32 [n_items + 1, D].
    """
    table = student.items.ids
    assert isinstance(table, CodedRows)
    trained = torch.nonzero(catalogue.trained).flatten()
    if len(trained):
        parts, codes, _ = table.weight.shape
        found = codes_of(teacher_vectors[trained].cpu(), parts, codes)
        table.codes[student.items.first_row[domain] + trained] = found.to(table.codes.device)
