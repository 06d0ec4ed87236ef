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
from pipeline.evaluation.top_items import top_items

BLOCK_BYTES = 8 * 2**20  # of scores at a time at most; larger blocks leave the caches and cost three times as much
CACHE_BYTES, ENOUGH_ROWS = 2**20, 160  # a block of enough rows is no larger than the second cache


@dataclass(frozen=True)
class Requests:
    """A block of users to be ranked for, as a server would see them.

    Attributes:
        users: int32 [B], user indices (profile features and attributes hang on them).
        histories: B arrays of item indices, chronological, possibly empty.
        times: int64 [B], when the ranking is wanted, microseconds UTC.
        held: the holdout and the rows of it, int [B], that these are, for models that read more than items; None for
            requests that are none.
    """

    users: Array
    histories: list[Array]
    times: Array
    held: tuple[Holdout, Array] | None = None

    def __len__(self) -> int:
        return len(self.users)


class Scorer(Protocol):
    """Anything that ranks: a model or a baseline."""

    def scores(self, requests: Requests) -> Array:
        """float [B, n_items + 1], higher is better; column 0 (padding) is ignored."""
        ...


@dataclass(frozen=True)
class Ranks:
    """Ranks of the held-out items, 1 is best, row by row of the holdout, and out of how many candidates.

    Attributes:
        top: int64 [n, k], the best items with seen ones masked, 0 where fewer are left; None where not asked for.
    """

    masked: Array
    unmasked: Array
    candidates_masked: Array
    candidates_unmasked: Array
    top: Array | None = None


def requests_of(holdout: Holdout, rows: Array) -> Requests:
    """Some rows of a holdout as requests."""
    starts, stops = holdout.history_offsets[rows].tolist(), holdout.history_offsets[rows + 1].tolist()
    return Requests(
        users=holdout.user_index[rows],
        histories=[holdout.history_items[start:stop] for start, stop in zip(starts, stops, strict=True)],
        times=holdout.timestamp[rows],
        held=(holdout, rows),
    )


def rank_holdout(
    scorer: Scorer,
    holdout: Holdout,
    n_items: int,
    rows: Array | None = None,
    block_bytes: int = BLOCK_BYTES,
    top: int = 0,
) -> Ranks:
    """Rank rows of a holdout (all by default) against all items, users with histories of like length together.

    Args:
        block_bytes: of float32 scores at a time.
        top: how many of the best items to return beside the ranks, at most all.
    """
    row_bytes = 4 * (n_items + 1)
    block = max(1, min(block_bytes // row_bytes, max(ENOUGH_ROWS, CACHE_BYTES // row_bytes)))
    rows = np.arange(len(holdout)) if rows is None else rows
    order = np.argsort(holdout.history_lengths[rows], kind="stable")  # a model pads less
    rows, back = rows[order], np.argsort(order)
    top = min(top, n_items)
    parts, lists = [], []
    for start in range(0, len(rows), block):
        requests = requests_of(holdout, rows[start : start + block])
        wanted = holdout.item_index[rows[start : start + block]]
        scores = scorer.scores(requests)
        seen = _places(requests.histories)
        if top:
            lists.append(_best_left(scores, seen, top))
        parts.append(_ranks(scores, wanted, seen))
    if not parts:
        none = np.zeros(0, dtype=np.int64)
        return Ranks(none, none, none, none, np.zeros((0, top), dtype=np.int64) if top else None)
    columns = [np.concatenate(part)[back] for part in zip(*parts, strict=True)]
    masked, unmasked, candidates_masked, candidates = columns
    best = np.concatenate(lists)[back] if top else None
    return Ranks(masked, unmasked, candidates_masked, candidates, best)


def ranks_of(scores: Array, wanted: Array, seen: list[Array]) -> tuple[Array, Array, Array, Array]:
    """The first four columns of `Ranks` for one block.

    Args:
        scores: float [B, n_items + 1].
        wanted: int [B], the held-out items.
        seen: B arrays of item indices to be masked.

    Raises:
        ValueError: the scores do not cover wanted items.
    """
    return _ranks(scores, wanted, _places(seen))


def best_unseen(scores: Array, seen: list[Array], k: int) -> Array:
    """The k best items of each row that are not masked, int64 [B, k], best first; 0 where fewer are left.

    Args:
        scores: float [B, n_items + 1]; a score that is no number is no recommendation.
        seen: B arrays of item indices.
        k: at most n_items.
    """
    return _best_left(scores, _places(seen), k)


Places = tuple[Array, Array]  # rows and columns of a block


def _places(seen: list[Array]) -> Places:
    """Where the items of each row stand, as often as they occur."""
    rows = np.repeat(np.arange(len(seen)), [len(items) for items in seen])
    return rows, np.concatenate([*seen, np.zeros(0, dtype=np.int64)]).astype(np.int64)


def _ranks(scores: Array, wanted: Array, seen: Places) -> tuple[Array, Array, Array, Array]:
    """As `ranks_of`."""
    batch, n_columns = scores.shape
    if batch != len(wanted) or (batch and int(wanted.max()) >= n_columns):
        raise ValueError(f"scores are {scores.shape}; {len(wanted)} rows up to item {wanted.max()} are wanted")
    n_items, every = n_columns - 1, np.arange(batch)
    own = scores[every, wanted][:, None]  # (B, 1)
    # Counting who is lower, not who is higher: a NaN is everybody's rival, and one's own NaN beats nobody.
    lower = scores < own  # (B, n_items + 1)
    lower[:, 0] = True  # padding is nobody's rival
    unmasked = n_columns - _row_sums(lower)  # one's own score is not lower: it counts as the "one more"
    hidden = np.zeros((batch, n_columns), dtype=bool)
    hidden[seen] = True
    n_hidden = _row_sums(hidden)
    was_seen = hidden[every, wanted]
    hidden &= lower
    above = n_hidden - _row_sums(hidden)  # seen items that would have stood before
    masked = np.where(was_seen, n_items, unmasked - above)
    candidates = np.full(batch, n_items, dtype=np.int64)
    return masked, unmasked, candidates - np.where(was_seen, 0, n_hidden), candidates


def _best_left(scores: Array, seen: Places, k: int) -> Array:
    """As `best_unseen`."""
    left = scores.copy()
    left[seen] = -np.inf
    left[:, 0] = -np.inf
    if np.isnan(left.max(initial=-np.inf)):
        left[np.isnan(left)] = -np.inf
    best = top_items(left, k)
    return np.where(np.take_along_axis(left, best, axis=1) > -np.inf, best, 0)


def _row_sums(flags: Array) -> Array:
    """True values of each row, int64 [B]; as bytes, which numpy adds faster than bools."""
    return flags.view(np.uint8).sum(1, dtype=np.uint32).astype(np.int64)
