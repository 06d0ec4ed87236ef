"""What is known of a history beside its items: when each was taken, by which event, with which value."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

UNKNOWN = torch.iinfo(torch.int64).min  # a time that nobody knows


@dataclass(frozen=True)
class Moments:
    """Of histories [B, L]; what stands at padding means nothing.

    Attributes:
        times: int64 [B, L], when each item was taken, microseconds; `UNKNOWN` where nobody knows.
        now: int64 [B], when what follows the last item is asked for, microseconds; `UNKNOWN` likewise.
        events: int64 [B, L], codes of the spec's events, 0 = unknown.
        values: float32 [B, L], on the scale of the domain's values (mean 0, spread 1), 0 = unknown.
    """

    times: Tensor
    now: Tensor
    events: Tensor
    values: Tensor


def nothing_known(history: Tensor) -> Moments:
    """The moments of int64 [B, L] histories of which no more than the items is known."""
    unknown = torch.full_like(history, UNKNOWN)
    return Moments(unknown, unknown.new_full((len(history),), UNKNOWN), torch.zeros_like(history), history * 0.0)
