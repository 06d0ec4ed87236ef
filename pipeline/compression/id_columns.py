"""Columns of the ID table, which is most of a model: those that carry least are taken out of every row at once.

Of a low-rank table only: there a column is a row of bytes for every item, and the up-projection knows what it was for.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from pipeline.compression.prune import CannotPrune, lowest
from pipeline.models.item_table import FACTORS
from pipeline.models.recommender import SequentialRecommender


@torch.no_grad()
def least_columns(model: SequentialRecommender, trained: Tensor, keep: float) -> tuple[int, ...]:
    """Which columns to remove, ascending: those that add least to the trained items' vectors.

    A column adds its root mean square over the rows times the length of its direction.

    Args:
        trained: bool [rows] of the table.
        keep: share of the columns that stays.

    Raises:
        CannotPrune: the table is not a low-rank one, or no column would stay.
    """
    if model.spec.table != FACTORS or model.items.up is None:
        raise CannotPrune("columns can be taken out of a low-rank table alone (table factors, id_width below width)")
    size = model.items.id_rows[trained].square().mean(0).sqrt() * model.items.up.weight.norm(dim=0)
    return lowest(size, keep)


@torch.no_grad()
def without_columns(model: SequentialRecommender, columns: tuple[int, ...]) -> SequentialRecommender:
    """The model without those columns, in the table and in the up-projection."""
    if not columns:
        return model
    kept = [column for column in range(model.spec.id_width) if column not in columns]
    smaller = SequentialRecommender(replace(model.spec, id_width=len(kept))).to(model.items.id_rows.device)
    weights = model.state_dict()
    for name in ("items.ids.weight", "items.up.weight"):
        weights[name] = weights[name][:, kept]
    smaller.load_state_dict(weights)  # strict: a shape that was not pruned as planned is an error here
    return smaller.eval()
