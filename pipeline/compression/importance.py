"""How much a model would miss a head, a feed-forward channel or a whole layer, over calibration batches.

* Taylor: how much the loss would change, to first order. E_batch | gradient at a gate of 1 on the unit |, which is the
  sum of activation times gradient (Molchanov et al., arXiv 1611.06440; for heads Michel et al., arXiv 1905.10650).
* Activation: how much the unit adds to the stream, the root mean square of its output times the size of the weights
  that read it. No labels and no gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pipeline.exit_codes import DataBrokeContract
from pipeline.models.members import blocks_of
from pipeline.models.recommender import SequentialRecommender
from pipeline.models.trunk import Block
from pipeline.training.batches import Batch

NOBODY = "the calibration set has no users: nothing tells which units matter; calibrate on users with interactions"


@dataclass(frozen=True)
class Gates:
    """Factors on the units of one layer: heads [H], channels [C], and all that the layer adds to the stream []."""

    heads: Tensor
    channels: Tensor
    layer: Tensor = field(default_factory=lambda: torch.ones(()))


@contextmanager
def gated(model: SequentialRecommender, gates: Sequence[Gates]) -> Iterator[None]:
    """Multiply every head's and channel's output by its gate during the body; a gate of 0 masks the unit."""
    hooks = []
    for block, gate in zip(blocks_of(model.trunk), gates, strict=True):
        width = block.head_width

        def on_heads(_: object, inputs: tuple[Tensor], gate: Gates = gate, width: int = width) -> tuple[Tensor]:
            return (inputs[0] * gate.heads.repeat_interleave(width),)

        def on_channels(_: object, inputs: tuple[Tensor], gate: Gates = gate) -> tuple[Tensor]:
            return (inputs[0] * gate.channels,)

        def on_layer(_: object, inputs: tuple[Tensor, ...], output: Tensor, gate: Gates = gate) -> Tensor:
            return output + (output - inputs[0]) * (gate.layer - 1.0)

        hooks.append(block.register_forward_hook(on_layer))
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
        Gates(
            torch.ones(layer.heads, device=device),
            torch.ones(layer.channels, device=device),
            torch.ones((), device=device),
        )
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
        DataBrokeContract: no batches.
    """
    if not batches:
        raise DataBrokeContract(NOBODY)
    model.eval()
    total = [Gates(*map(torch.zeros_like, _parts(gates))) for gates in open_gates(model)]
    for batch in batches:
        gates = open_gates(model)
        leaves = [part.requires_grad_() for gate in gates for part in _parts(gate)]
        with gated(model, gates):
            gradients = torch.autograd.grad(loss(model, batch), leaves)
        for part, gradient in zip((part for layer in total for part in _parts(layer)), gradients, strict=True):
            part.add_(gradient.abs())
    return total


def _parts(gates: Gates) -> tuple[Tensor, Tensor, Tensor]:
    return gates.heads, gates.channels, gates.layer


@torch.no_grad()
def activation_importance(
    model: SequentialRecommender,
    batches: Sequence[Batch],
    loss: Callable[[SequentialRecommender, Batch], Tensor],
) -> list[Gates]:
    """As `taylor_importance`, from the sizes of activations; `loss` is run for its forward pass alone."""
    if not batches:
        raise DataBrokeContract(NOBODY)
    model.eval()
    blocks = blocks_of(model.trunk)
    squares = {r: torch.zeros(r.in_features, device=r.weight.device) for block in blocks for r in _readers(block)}
    added = [torch.zeros((), device=block.up.weight.device) for block in blocks]
    hooks = []
    for number, block in enumerate(blocks):
        for reader in _readers(block):

            def on_read(_: object, inputs: tuple[Tensor], reader: torch.nn.Linear = reader) -> None:
                squares[reader] += inputs[0].square().flatten(0, -2).mean(0)

            hooks.append(reader.register_forward_pre_hook(on_read))

        def on_layer(_: object, inputs: tuple[Tensor, ...], output: Tensor, number: int = number) -> None:
            added[number] += (output - inputs[0]).square().sum(-1).mean()

        hooks.append(block.register_forward_hook(on_layer))
    try:
        for batch in batches:
            loss(model, batch)
    finally:
        for hook in hooks:
            hook.remove()
    found = []
    for block, of_layer in zip(blocks, added, strict=True):
        by_input = [(squares[reader] * reader.weight.square().sum(0)) for reader in _readers(block)]
        heads = by_input[0].view(block.heads, block.head_width).sum(1)
        found.append(Gates(heads.sqrt(), by_input[1].sqrt(), of_layer.sqrt()))
    return found


def _readers(block: Block) -> tuple[torch.nn.Linear, torch.nn.Linear]:
    """What reads the heads, and what reads the channels."""
    return block.attention_out, block.down
