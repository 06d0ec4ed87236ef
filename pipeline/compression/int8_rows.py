"""A table of floats as a table of bytes: each row on a scale of its own, rounded to the nearest."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from pipeline.models.item_table import INT8, Int8Rows
from pipeline.models.recommender import SequentialRecommender

LARGEST = 127


def rounded(rows: Tensor) -> tuple[Tensor, Tensor]:
    """float32 [m, D] -> int8 [m, D] and their scales, float32 [m]; a row of zeros has scale 0."""
    scale = rows.abs().amax(1) / LARGEST
    steps = rows / torch.where(scale > 0, scale, 1.0)[:, None]
    return steps.round().to(torch.int8), scale


@torch.no_grad()
def with_int8_rows(model: SequentialRecommender) -> SequentialRecommender:
    """The same model with the rows of its ID table, a table of factors, in bytes."""
    smaller = SequentialRecommender(replace(model.spec, table=INT8)).to(model.items.id_rows.device)
    weights = model.state_dict()
    table, scale = rounded(weights.pop("items.ids.weight"))
    smaller.load_state_dict({**weights, "items.ids.weight": table, "items.ids.scale": scale})
    assert isinstance(smaller.items.ids, Int8Rows)
    return smaller.eval()
