"""Structured pruning: heads and feed-forward channels are taken out of the weights, not masked.

A mask that stays dense saves nothing. What was removed is a small map (JSON), from which the masked dense model can be
rebuilt; its outputs are the pruned model's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pipeline.compression.importance import Gates
from pipeline.models.recommender import SequentialRecommender
from pipeline.models.spec import LayerShape


@dataclass(frozen=True)
class Removed:
    """Units taken out of one layer, as indices into the dense layer, ascending."""

    heads: tuple[int, ...]
    channels: tuple[int, ...]


def least_important(importance: Sequence[Gates], keep_heads: float, keep_channels: float) -> list[Removed]:
    """What to remove so that every layer keeps these shares of its heads and channels.

    Raises:
        ValueError: a layer would keep no head or no channel.
    """
    return [Removed(_lowest(layer.heads, keep_heads), _lowest(layer.channels, keep_channels)) for layer in importance]


def _lowest(importance: Tensor, keep: float) -> tuple[int, ...]:
    kept = round(keep * len(importance))
    if kept < 1:
        raise ValueError(f"keeping {keep:g} of {len(importance)} units leaves none")
    order = torch.argsort(importance, descending=True, stable=True)
    return tuple(sorted(int(unit) for unit in order[kept:]))


def closed_gates(model: SequentialRecommender, removed: Sequence[Removed]) -> list[Gates]:
    """Gates that mask the removed units of the dense model."""
    gates = []
    for layer, out in zip(model.spec.layers, removed, strict=True):
        heads, channels = torch.ones(layer.heads), torch.ones(layer.channels)
        heads[list(out.heads)] = 0.0
        channels[list(out.channels)] = 0.0
        gates.append(Gates(heads, channels))
    return gates


@torch.no_grad()
def without(model: SequentialRecommender, removed: Sequence[Removed]) -> SequentialRecommender:
    """A smaller model: the dense one without the removed units; everything else is copied."""
    layers = tuple(
        LayerShape(layer.heads - len(out.heads), layer.channels - len(out.channels))
        for layer, out in zip(model.spec.layers, removed, strict=True)
    )
    smaller = SequentialRecommender(replace(model.spec, layers=layers)).to(next(model.parameters()).device)
    weights = model.state_dict()
    width = model.spec.head_width
    for number, (layer, out) in enumerate(zip(model.spec.layers, removed, strict=True)):
        heads = [head for head in range(layer.heads) if head not in out.heads]
        channels = [channel for channel in range(layer.channels) if channel not in out.channels]
        inner = [head * width + i for head in heads for i in range(width)]
        # Rows of the joint projection stand as query heads, key heads, value heads.
        joint = [part * layer.heads * width + row for part in range(3) for row in inner]
        name = f"trunk.blocks.{number}"
        to_channels = [part for part in (f"{name}.up", f"{name}.beside") if f"{part}.weight" in weights]
        for part, kept in ((f"{name}.query_key_value", joint), *((part, channels) for part in to_channels)):
            weights[f"{part}.weight"] = weights[f"{part}.weight"][kept]
            weights[f"{part}.bias"] = weights[f"{part}.bias"][kept]
        for part, kept in ((f"{name}.attention_out", inner), (f"{name}.down", channels)):
            weights[f"{part}.weight"] = weights[f"{part}.weight"][:, kept]
    smaller.load_state_dict(weights)  # strict: a shape that was not pruned as planned is an error here
    return smaller.eval()
