"""Windows of real sequences, and what each is to be made for: the examples of a training step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipeline.augmentation.gan.real_sequences import RealSequences
from pipeline.models.generator import Condition

NO_PROFILE = 0.1  # chance that a profile is hidden in training
ENDING = 0.4  # chance that the last item is given as the one to arrive at


@dataclass(frozen=True)
class Windows:
    """Some real sequences: items int64 [B, L], left-aligned, 0 after the last; and whose they are, int64 [B]."""

    items: Tensor
    users: Tensor

    @property
    def lengths(self) -> Tensor:
        """int64 [B]."""
        return (self.items > 0).sum(1)


def draw_windows(real: RealSequences, size: int, longest: int, draws: np.random.Generator) -> Windows:
    """`size` users with their interactions, of longer histories a random stretch of `longest`."""
    lengths = np.diff(real.offsets)
    users = draws.choice(np.flatnonzero(lengths > 0), size)
    kept = np.minimum(lengths[users], longest)
    first = real.offsets[users] + np.floor(draws.random(size) * (lengths[users] - kept + 1)).astype(np.int64)
    at = np.arange(int(kept.max()))[None, :]
    items = np.where(at < kept[:, None], real.items[np.minimum(first[:, None] + at, len(real.items) - 1)], 0)
    return Windows(torch.from_numpy(items.astype(np.int64)), torch.from_numpy(users))


def condition_of(real: RealSequences, windows: Windows, given: bool) -> tuple[Condition, Tensor]:
    """What the sequence of each window is to be made for, drawn by torch's generator; and that sequence.

    Args:
        given: a random part of each sequence is there already, from nothing to all but one item; False: nothing.

    Returns:
        the condition; and int64 [B, L], left-aligned, 0 after the last, without the item to arrive at, if told.
    """
    items, lengths = windows.items, windows.lengths
    told = (torch.rand(len(items)) < ENDING) & (lengths > 1)
    last = items.gather(1, (lengths - 1)[:, None])[:, 0]
    places = torch.arange(items.shape[1])[None]
    items = torch.where(places < (lengths - told.long())[:, None], items, 0)
    items = items[:, : int((items > 0).sum(1).max())]
    profile = real.profiles[windows.users] * (torch.rand(len(items), 1) >= NO_PROFILE)
    history = torch.zeros_like(items)
    if given:
        known = (torch.rand(len(items)) * (items > 0).sum(1)).long()  # 0 to all but one
        history = torch.where(places[:, : items.shape[1]] < known[:, None], items, 0)
    return Condition(profile, torch.where(told, last, 0), history), items
