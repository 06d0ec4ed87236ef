"""How much the loss would change without a head or a channel: first-order Taylor expansion over calibration batches.

    importance(unit) = E_batch | Σ gate gradient |,   with a gate of 1 on every head and feed-forward channel

The gradient at a gate is the sum of activation times gradient (Molchanov et al., arXiv 1611.06440; for heads Michel
et al., arXiv 1905.10650).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.models.recommender import SequentialRecommender
from pipeline.models.trunk import Block
from pipeline.training.batches import Batch


@dataclass(frozen=True)
class Gates:
    """Factors on the units of one layer: heads [H] and channels [C]."""

    heads: Tensor
    channels: Tensor


@contextmanager
def gated(model: SequentialRecommender, gates: Sequence[Gates]) -> Iterator[None]:
    """Multiply every head's and channel's output by its gate during the body; a gate of 0 masks the unit."""
    hooks = []
    for block, gate in zip(model.trunk.blocks, gates, strict=True):
        assert isinstance(block, Block)
        width = block.head_width

        def on_heads(_: object, inputs: tuple[Tensor], gate: Gates = gate, width: int = width) -> tuple[Tensor]:
            return (inputs[0] * gate.heads.repeat_interleave(width),)

        def on_channels(_: object, inputs: tuple[Tensor], gate: Gates = gate) -> tuple[Tensor]:
            return (inputs[0] * gate.channels,)

        hooks.append(block.attention_out.register_forward_pre_hook(on_heads))
        hooks.append(block.down.register_forward_pre_hook(on_channels))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def open_gates(model: SequentialRecommender) -> list[Gates]:
    """Gates of 1 on every unit."""
    device = next(model.parameters()).device
    return [
        Gates(torch.ones(layer.heads, device=device), torch.ones(layer.channels, device=device))
        for layer in model.spec.layers
    ]


def taylor_importance(
    model: SequentialRecommender,
    batches: Sequence[Batch],
    loss: Callable[[SequentialRecommender, Batch], Tensor],
) -> list[Gates]:
    """The importance of every unit, laid out as gates; larger matters more.

    Args:
        model: the dense model, used without dropout.
        batches: calibration data, at least one batch.
        loss: scalar loss of a batch.

    Raises:
        ValueError: no batches.
    """
    if not batches:
        raise ValueError("importance needs at least one calibration batch")
    model.eval()
    total = [Gates(torch.zeros_like(g.heads), torch.zeros_like(g.channels)) for g in open_gates(model)]
    for batch in batches:
        gates = open_gates(model)
        leaves = [leaf.requires_grad_() for gate in gates for leaf in (gate.heads, gate.channels)]
        with gated(model, gates):
            gradients = torch.autograd.grad(loss(model, batch), leaves)
        for layer, heads, channels in zip(total, gradients[0::2], gradients[1::2], strict=True):
            layer.heads.add_(heads.abs())
            layer.channels.add_(channels.abs())
    return total
