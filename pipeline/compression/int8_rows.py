"""The ID table of a trained model as a table of bytes."""

from __future__ import annotations

from dataclasses import replace

import torch

from pipeline.compression.packed_rows import INT8 as BYTES
from pipeline.compression.packed_rows import packed
from pipeline.models.item_table import INT8
from pipeline.models.recommender import SequentialRecommender


@torch.no_grad()
def with_int8_rows(model: SequentialRecommender) -> SequentialRecommender:
    """The same model with the rows of its ID table, a table of factors, rounded to bytes (`packed_rows`)."""
    device = model.items.id_rows.device
    smaller = SequentialRecommender(replace(model.spec, table=INT8)).to(device)
    weights = model.state_dict()
    rows, scales = packed(weights.pop("items.ids.weight").cpu().numpy(), BYTES)
    weights |= {"items.ids.weight": torch.from_numpy(rows), "items.ids.scale": torch.from_numpy(scales)}
    smaller.load_state_dict(weights)
    return smaller.eval()
