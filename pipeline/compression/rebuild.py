"""The way back: a pruned model as the dense one with zeros where units were taken out, from the map alone.

Its outputs are the pruned model's. For tools that know only the dense shape, and to prove the map.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from pipeline.compression.prune import BLOCKS, Removed, kept_rows
from pipeline.models.members import blocks_of
from pipeline.models.recommender import SequentialRecommender
from pipeline.models.spec import LayerShape


@torch.no_grad()
def rebuilt(
    pruned: SequentialRecommender, removed: Sequence[Removed], layers: Sequence[LayerShape]
) -> SequentialRecommender:
    """The dense model with the pruned one's weights; what was removed is zero, a whole layer adds nothing.

    Args:
        removed: the map, of the dense layers.
        layers: shapes of the dense layers.
    """
    dense = SequentialRecommender(replace(pruned.spec, layers=tuple(layers)))
    weights = {name: weight for name, weight in pruned.state_dict().items() if not name.startswith(BLOCKS)}
    weights |= {name: torch.zeros_like(w) for name, w in dense.state_dict().items() if name.startswith(BLOCKS)}
    place = 0
    for number, (layer, out) in enumerate(zip(layers, removed, strict=True)):
        if out.whole:
            continue
        heads, joint, channels = kept_rows(layer, out, pruned.spec.head_width)
        rows = {"query_key_value": joint, "up": channels, "beside": channels}
        columns = {"attention_out": heads, "down": channels}
        for name, weight in blocks_of(pruned.trunk)[place].state_dict().items():
            into, part = weights[f"{BLOCKS}{number}.{name}"], name.split(".")[0]
            if part in rows:
                into[rows[part]] = weight
            elif part in columns and name.endswith("weight"):
                into[:, columns[part]] = weight
            else:
                into.copy_(weight)
        place += 1
    dense.load_state_dict(weights)
    return dense.eval()
