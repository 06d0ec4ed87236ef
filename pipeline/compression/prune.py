"""Structured pruning: heads, feed-forward channels and whole layers are taken out of the weights, not masked.

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

BLOCKS = "trunk.blocks."


class CannotPrune(ValueError):
    """What is asked for would leave nothing of something, or cannot be reached."""


@dataclass(frozen=True)
class Removed:
    """Units taken out of one layer, as indices into the dense layer, ascending."""

    heads: tuple[int, ...]
    channels: tuple[int, ...]
    whole: bool = False  # nothing of the layer stays; what it added to the stream is gone


def least_important(
    importance: Sequence[Gates], keep_heads: float, keep_channels: float, keep_layers: float = 1.0
) -> list[Removed]:
    """What to remove so that this share of the layers stays, and of each its shares of heads and channels.

    Raises:
        CannotPrune: no layer would stay, or a layer would keep no head or no channel.
    """
    gone = lowest(torch.stack([layer.layer for layer in importance]), keep_layers)
    return [
        Removed((), (), whole=True)
        if number in gone
        else Removed(lowest(layer.heads, keep_heads), lowest(layer.channels, keep_channels))
        for number, layer in enumerate(importance)
    ]


def lowest(importance: Tensor, keep: float) -> tuple[int, ...]:
    """The units [n] that go so that the share `keep` stays, ascending; of equal ones the later go.

    Raises:
        CannotPrune: none would stay.
    """
    kept = round(keep * len(importance))
    if kept < 1:
        raise CannotPrune(f"keeping {keep:g} of {len(importance)} units leaves none")
    order = torch.argsort(importance, descending=True, stable=True)
    return tuple(sorted(int(unit) for unit in order[kept:]))


def closed_gates(model: SequentialRecommender, removed: Sequence[Removed]) -> list[Gates]:
    """Gates that mask the removed units of the dense model."""
    gates = []
    for layer, out in zip(model.spec.layers, removed, strict=True):
        heads, channels = torch.ones(layer.heads), torch.ones(layer.channels)
        heads[list(out.heads)] = 0.0
        channels[list(out.channels)] = 0.0
        gates.append(Gates(heads, channels, torch.tensor(0.0 if out.whole else 1.0)))
    return gates


@torch.no_grad()
def without(model: SequentialRecommender, removed: Sequence[Removed]) -> SequentialRecommender:
    """A smaller model: the dense one without the removed units; everything else is copied.

    Raises:
        CannotPrune: no layer is left.
    """
    layers = tuple(
        LayerShape(layer.heads - len(out.heads), layer.channels - len(out.channels))
        for layer, out in zip(model.spec.layers, removed, strict=True)
        if not out.whole
    )
    if not layers:
        raise CannotPrune("a model without any layer is none")
    smaller = SequentialRecommender(replace(model.spec, layers=layers)).to(next(model.parameters()).device)
    weights = {name: weight for name, weight in model.state_dict().items() if not name.startswith(BLOCKS)}
    dense = model.state_dict()
    width, place = model.spec.head_width, 0
    for number, (layer, out) in enumerate(zip(model.spec.layers, removed, strict=True)):
        if out.whole:
            continue
        before, after = f"{BLOCKS}{number}.", f"{BLOCKS}{place}."
        place += 1
        block = {name.removeprefix(before): weight for name, weight in dense.items() if name.startswith(before)}
        heads, joint, channels = kept_rows(layer, out, width)
        to_channels = [part for part in ("up", "beside") if f"{part}.weight" in block]
        for part, kept in (("query_key_value", joint), *((part, channels) for part in to_channels)):
            block[f"{part}.weight"] = block[f"{part}.weight"][kept]
            block[f"{part}.bias"] = block[f"{part}.bias"][kept]
        for part, kept in (("attention_out", heads), ("down", channels)):
            block[f"{part}.weight"] = block[f"{part}.weight"][:, kept]
        weights |= {after + name: weight for name, weight in block.items()}
    smaller.load_state_dict(weights)  # strict: a shape that was not pruned as planned is an error here
    return smaller.eval()


def kept_rows(layer: LayerShape, out: Removed, width: int) -> tuple[list[int], list[int], list[int]]:
    """What stays of a dense layer: inputs of the heads' reader, rows of the joint projection, channels."""
    kept = [head for head in range(layer.heads) if head not in out.heads]
    heads = [head * width + i for head in kept for i in range(width)]
    # Rows of the joint projection stand as query heads, key heads, value heads.
    joint = [part * layer.heads * width + row for part in range(3) for row in heads]
    return heads, joint, [channel for channel in range(layer.channels) if channel not in out.channels]
