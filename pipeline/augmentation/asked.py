"""What sequences are wanted: for whom, given what, arriving where, how long.

All arms of the trial answer the same question with as many sequences of the same lengths, so that a gain of one over
another is not one of volume.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.augmentation.gan.real_sequences import RealSequences
from pipeline.data.sequences import Array
from pipeline.training.randomness import generator

SHARE_FOR_ITEMS = 0.3  # of what is asked for: sequences that arrive at a tail item


@dataclass(frozen=True)
class Asked:
    """Sequences wanted.

    Attributes:
        users: int64 [n].
        history: int64 [n, K], left-aligned, 0 after the last; the interactions there are.
        ending: int64 [n], the item to arrive at, 0 for none.
        lengths: int64 [n], of the whole sequences, history and ending included.
    """

    users: Array
    history: Array
    ending: Array
    lengths: Array

    def __len__(self) -> int:
        return len(self.users)


def tail_items(counts: Array, share: float) -> Array:
    """bool [n_items + 1]: the least popular trained items that together have `share` of the interactions.

    Items as popular as the last of them belong to them too.
    """
    trained = np.sort(counts[counts > 0])
    if not len(trained):
        return np.zeros(len(counts), dtype=bool)
    last = trained[min(int(np.searchsorted(np.cumsum(trained), share * trained.sum())), len(trained) - 1)]
    return (counts > 0) & (counts <= last)


def ask_for_thin(real: RealSequences, tail: Array, count: int, thin: int, longest: int, seed: int) -> Asked:
    """Sequences for thin users (1 to `thin` training interactions; everybody where nobody is thin) and tail items.

    A thin user's is as long as that of a random user who is not thin; one for an item as long as any.
    """
    draws = generator(seed, real.name, "asked")
    lengths = np.diff(real.offsets)
    thick = lengths[lengths > thin]
    thin_users = np.flatnonzero((lengths > 0) & (lengths <= thin))
    thin_users = thin_users if len(thin_users) else np.flatnonzero(lengths > 0)
    for_items = round(SHARE_FOR_ITEMS * count) if tail.any() else 0
    users = np.concatenate(
        [draws.choice(thin_users, count - for_items), draws.choice(np.flatnonzero(lengths > 0), for_items)]
    )
    history = np.zeros((count, min(thin, longest)), dtype=np.int64)
    for row in range(count - for_items):
        own = real.items[real.offsets[users[row]] : real.offsets[users[row] + 1]][-history.shape[1] :]
        history[row, : len(own)] = own
    known = (history > 0).sum(1)
    wanted = draws.choice(thick if len(thick) else np.array([2 * thin]), count)
    ending = np.zeros(count, dtype=np.int64)
    if for_items:
        ending[-for_items:] = draws.choice(np.flatnonzero(tail), for_items)
        wanted[-for_items:] = draws.choice(lengths[lengths > 0], for_items)
    # mixed, so that the first half is half of both
    order = draws.permutation(count)
    asked = Asked(users, history, ending, np.clip(wanted, np.maximum(known + 1, 2), max(longest, history.shape[1] + 1)))
    return Asked(*(part[order] for part in (asked.users, asked.history, asked.ending, asked.lengths)))


def ask_like_real(real: RealSequences, longest: int) -> Asked:
    """A sequence for every training user, as long as his own, from his profile alone."""
    lengths = np.diff(real.offsets)
    users = np.flatnonzero(lengths > 0)
    none = np.zeros(len(users), dtype=np.int64)
    return Asked(users, np.zeros((len(users), 0), dtype=np.int64), none, np.minimum(lengths[users], longest))
