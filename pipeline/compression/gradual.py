"""Pruning in rounds: a part is removed, the model recovers, what matters is measured anew (arXiv 1710.01878).

The share that is left after round r of R falls along a cubic, so that most goes while much is left:
keep + (1 - keep) (1 - r / R)³.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.compression.prune import Removed
from pipeline.models.spec import LayerShape


def share_after(round_: int, rounds: int, keep: float) -> float:
    """The share of the dense model's units that is left after a round, from 1."""
    return keep + (1.0 - keep) * (1.0 - round_ / rounds) ** 3


def joined(first: Sequence[Removed], then: Sequence[Removed], layers: Sequence[LayerShape]) -> list[Removed]:
    """Two removals, one after the other, as one.

    Args:
        first: of the dense layers.
        then: of the layers that `first` leaves.
        layers: shapes of the dense layers.
    """
    rest = iter(then)
    found = []
    for layer, gone in zip(layers, first, strict=True):
        if gone.whole:
            found.append(gone)
            continue
        more = next(rest)
        heads = [head for head in range(layer.heads) if head not in gone.heads]
        channels = [channel for channel in range(layer.channels) if channel not in gone.channels]
        found.append(
            Removed((), (), whole=True)
            if more.whole
            else Removed(
                tuple(sorted([*gone.heads, *(heads[head] for head in more.heads)])),
                tuple(sorted([*gone.channels, *(channels[channel] for channel in more.channels)])),
            )
        )
    return found
