"""Pruning to a target: the units that are least worth their price go first, wherever in the model they are.

The price of a unit is parameters, or multiplications of one request. The latter stands for latency and not the clock:
the same data give the same model on every machine.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.compression.importance import Gates
from pipeline.compression.prune import CannotPrune, Removed
from pipeline.models.spec import SWIGLU, ModelSpec

PARAMETERS, OPERATIONS = "parameters", "operations"


def prices(spec: ModelSpec, of: str) -> tuple[int, int]:
    """What one head and one feed-forward channel cost: parameters, or multiplications of a request of full length."""
    inner, width, places = spec.head_width, spec.width, 1 + spec.max_length
    ups = 2 if spec.feed_forward == SWIGLU else 1
    if of == PARAMETERS:
        return 3 * inner * (width + 1) + inner * width, ups * (width + 1) + width
    return places * 4 * inner * width + 2 * places * places * inner, places * (ups + 1) * width


def total(spec: ModelSpec, of: str, parameters: int, n_items: int) -> int:
    """What a whole model costs.

    Args:
        parameters: of the model.
        n_items: of the catalogue that a request is scored against.
    """
    if of == PARAMETERS:
        return parameters
    head, channel = prices(spec, of)
    return sum(layer.heads * head + layer.channels * channel for layer in spec.layers) + n_items * spec.score_width


def to_target(importance: Sequence[Gates], spec: ModelSpec, of: str, total: int, keep: float) -> list[Removed]:
    """What to remove so that at most the share `keep` of a model's `total` price is left.

    Every layer keeps a head and a channel.

    Raises:
        CannotPrune: the target is below what that needs.
    """
    price = dict(zip(("heads", "channels"), prices(spec, of), strict=True))
    units = sorted(
        (float(worth) / price[kind], number, kind, unit)
        for number, layer in enumerate(importance)
        for kind in price
        for unit, worth in enumerate(getattr(layer, kind))
    )
    left = {(number, kind): len(getattr(layer, kind)) for number, layer in enumerate(importance) for kind in price}
    gone: dict[tuple[int, str], list[int]] = {part: [] for part in left}
    excess = total * (1.0 - keep)
    for _, number, kind, unit in units:
        if excess <= 0:
            break
        if left[number, kind] > 1:
            left[number, kind] -= 1
            gone[number, kind].append(unit)
            excess -= price[kind]
    if excess > 0:
        least = (total * keep + excess) / total
        raise CannotPrune(
            f"{keep:.0%} of the {of} cannot be reached: one head and one channel a layer leave {least:.0%}"
        )
    return [
        Removed(tuple(sorted(gone[number, "heads"])), tuple(sorted(gone[number, "channels"])))
        for number in range(len(importance))
    ]
