"""Exact ranks of held-out items in the full catalogue, seen items masked and unmasked in one pass.

    ranks = rank_holdout(scorer, data.holdout("test"), data.n_items)
    ranks.masked, ranks.unmasked                       # int64 [n], 1 is best

A tie counts against the model, and so does a score that is no number: the rank is one more than the number of other
candidates that do not score strictly lower. Masked ranking is what a server does: a seen item is never shown, so a
held-out item that the user has seen before has the last rank.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from pipeline.data.sequences import Array
from pipeline.data.training_set import Holdout

BLOCK_BYTES = 64 * 2**20  # of scores at a time


@dataclass(frozen=True)
class Requests:
    """A block of users to be ranked for, as a server would see them.

    Attributes:
        users: int32 [B], user indices (profile features and attributes hang on them).
        histories: B arrays of item indices, chronological, possibly empty.
        times: int64 [B], when the ranking is wanted, microseconds UTC.
    """

    users: Array
    histories: list[Array]
    times: Array

    def __len__(self) -> int:
        return len(self.users)


class Scorer(Protocol):
    """Anything that ranks: a model or a baseline."""

    def scores(self, requests: Requests) -> Array:
        """float [B, n_items + 1], higher is better; column 0 (padding) is ignored."""
        ...


@dataclass(frozen=True)
class Ranks:
    """Ranks of the held-out items, 1 is best, row by row of the holdout, and out of how many candidates."""

    masked: Array
    unmasked: Array
    candidates_masked: Array
    candidates_unmasked: Array


def requests_of(holdout: Holdout, rows: Array) -> Requests:
    """Some rows of a holdout as requests."""
    return Requests(
        users=holdout.user_index[rows],
        histories=[holdout.history(row)[0] for row in rows],
        times=holdout.timestamp[rows],
    )


def rank_holdout(
    scorer: Scorer,
    holdout: Holdout,
    n_items: int,
    rows: Array | None = None,
    block_bytes: int = BLOCK_BYTES,
) -> Ranks:
    """Rank rows of a holdout (all by default) against all items, in blocks of `block_bytes` of float32 scores."""
    block = max(1, block_bytes // (4 * (n_items + 1)))
    rows = np.arange(len(holdout)) if rows is None else rows
    parts = []
    for start in range(0, len(rows), block):
        requests = requests_of(holdout, rows[start : start + block])
        wanted = holdout.item_index[rows[start : start + block]]
        parts.append(ranks_of(scorer.scores(requests), wanted, requests.histories))
    if not parts:
        none = np.zeros(0, dtype=np.int64)
        return Ranks(none, none, none, none)
    return Ranks(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def ranks_of(scores: Array, wanted: Array, seen: list[Array]) -> tuple[Array, Array, Array, Array]:
    """The columns of `Ranks` for one block.

    Args:
        scores: float [B, n_items + 1].
        wanted: int [B], the held-out items.
        seen: B arrays of item indices to be masked.

    Raises:
        ValueError: the scores do not cover wanted items.
    """
    batch, n_columns = scores.shape
    if batch != len(wanted) or (batch and int(wanted.max()) >= n_columns):
        raise ValueError(f"scores are {scores.shape}; {len(wanted)} rows up to item {wanted.max()} are wanted")
    n_items = n_columns - 1
    own = scores[np.arange(batch), wanted][:, None]  # (B, 1)
    # Not "lower" rather than ">=": a NaN is everybody's rival, and one's own NaN beats nobody.
    rivals = ~(scores < own)  # (B, n_items + 1)
    rivals[:, 0] = False
    rivals[np.arange(batch), wanted] = True  # counts as the "one more"
    unmasked = rivals.sum(1, dtype=np.int64)
    masked = unmasked.copy()
    candidates = np.full(batch, n_items, dtype=np.int64)
    candidates_masked = candidates.copy()
    for row, items in enumerate(seen):
        hidden = np.unique(items)
        if wanted[row] in hidden:
            masked[row] = n_items
            continue
        masked[row] -= int(rivals[row, hidden].sum())
        candidates_masked[row] -= len(hidden)
    return masked, unmasked, candidates_masked, candidates
