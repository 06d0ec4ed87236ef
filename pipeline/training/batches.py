"""Histories as training samples: a user's whole sequence is one sample of the dense causal loss.

No prefix is expanded: a history of 40 interactions is one row with 40 targets. Histories longer than the model reads
are cut into windows whose cuts move from epoch to epoch, so that every interaction is a target once an epoch. Batches
hold rows of like length, so that little is padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.data.sequences import Array
from pipeline.training.randomness import generator

POSITIONS = 4096  # targets of one batch at most
POOL = 32  # batches that are sorted by length together; more saves padding, fewer mixes better


@dataclass(frozen=True)
class Windows:
    """Samples: `items[start:stop]` of a user, at most max_length + 1 of them (the last is only a target)."""

    users: Array  # int64 [n]
    starts: Array  # int64 [n]
    stops: Array  # int64 [n]

    def __len__(self) -> int:
        return len(self.users)


@dataclass(frozen=True)
class Batch:
    """Rows of one domain, as arrays.

    Attributes:
        domain: its name.
        users: int64 [B], user indices.
        history: int64 [B, L], what is read, 0 = left padding.
        targets: int64 [B, 1 + L], what follows the profile token and each item, 0 = nothing to predict.
        places: int64 [B, 1 + L], where each target stands in the domain's `items`; of no meaning where there is none.
    """

    domain: str
    users: Array
    history: Array
    targets: Array
    places: Array

    @property
    def n_targets(self) -> int:
        """Positions with something to predict."""
        return int((self.targets > 0).sum())


def cut_windows(offsets: Array, max_length: int, draws: np.random.Generator) -> Windows:
    """Cut every user's range into windows of at most `max_length + 1` interactions.

    Args:
        offsets: int64 [n_users + 1].
        max_length: items a model reads; one more is the last target.
        draws: where the cuts of long histories fall.
    """
    size = max_length + 1
    lengths = np.diff(offsets)
    short = np.flatnonzero((lengths > 0) & (lengths <= size))
    users, starts, stops = [short], [offsets[short]], [offsets[short + 1]]
    for user in np.flatnonzero(lengths > size):
        first, last = int(offsets[user]), int(offsets[user + 1])
        # The first cut falls anywhere in the first window, the others follow at full size. A window begins with the
        # last item of the one before, which it reads and does not predict; so the first window holds two at least.
        cuts = np.arange(first + int(draws.integers(2, size + 1)), last, max_length)
        users.append(np.full(len(cuts) + 1, user))
        starts.append(np.concatenate([[first], cuts - 1]))
        stops.append(np.concatenate([cuts, [last]]))
    return Windows(*(np.concatenate(part).astype(np.int64) for part in (users, starts, stops)))


def group_by_length(lengths: Array, batch_size: int, draws: np.random.Generator) -> list[Array]:
    """Random batches of samples of like length: a list of index arrays, each of at most `batch_size`.

    A batch of long samples is split until it has at most `POSITIONS` targets or one sample.
    """
    order = draws.permutation(len(lengths))
    batches: list[Array] = []
    for start in range(0, len(order), batch_size * POOL):
        pool = order[start : start + batch_size * POOL]
        pool = pool[np.argsort(lengths[pool], kind="stable")]
        for rows in (pool[i : i + batch_size] for i in range(0, len(pool), batch_size)):
            batches.extend(_small_enough(rows, lengths))
    return [batches[i] for i in draws.permutation(len(batches))]


def _small_enough(rows: Array, lengths: Array) -> list[Array]:
    """Samples in the fewest parts of like size that have at most `POSITIONS` targets each; one alone may have more."""
    for parts in range(-(-int(lengths[rows].sum()) // POSITIONS), len(rows)):
        split = np.array_split(rows, parts)
        if max(int(lengths[part].sum()) for part in split) <= POSITIONS:
            return split
    return np.array_split(rows, len(rows))


def collate(domain: str, items: Array, offsets: Array, windows: Windows, rows: Array) -> Batch:
    """Lay some windows out as one batch, padded on the left."""
    starts, stops, users = windows.starts[rows], windows.stops[rows], windows.users[rows]
    lengths = stops - starts
    width = int(lengths.max())  # 1 + L: the last item is not read, only predicted
    at = stops[:, None] - width + np.arange(width)[None, :]  # (B, 1 + L), right-aligned
    full = np.where(at >= starts[:, None], items[np.maximum(at, 0)], 0).astype(np.int64)
    targets = np.zeros_like(full)
    targets[:, 1:] = np.where(full[:, :-1] > 0, full[:, 1:], 0)
    # The profile token predicts the first item of a user, not the middle of a long history.
    opens = starts == offsets[users]
    targets[opens, 0] = items[starts[opens]]
    places = at.copy()
    places[opens, 0] = starts[opens]
    return Batch(domain, users, np.ascontiguousarray(full[:, :-1]), targets, places)


@dataclass(frozen=True)
class TrainingDomain:
    """The sequences of one domain as an epoch's source of batches."""

    name: str
    offsets: Array
    items: Array


_Planned = tuple[str, Windows, Array]  # domain, its windows, the rows of one batch


def _batches(
    domain: TrainingDomain, seed: int, epoch: int, again: int, max_length: int, batch_size: int
) -> list[_Planned]:
    """One pass over a domain, cut and mixed by seed, epoch and how often the epoch has passed it before."""
    draws = generator(seed, "epoch", domain.name, epoch, again)
    windows = cut_windows(np.asarray(domain.offsets), max_length, draws)
    rows = group_by_length(windows.stops - windows.starts, batch_size, draws)
    return [(domain.name, windows, batch) for batch in rows]


class EpochBatches:
    """One epoch's batches over one or several domains, addressable by step.

    A domain's share of the steps is proportional to (its batches) ** temperature: 1 is by size, 0 gives every
    domain the same (arXiv 1907.05019, §4). The number of steps is that of one pass over everything.
    """

    def __init__(
        self,
        domains: Sequence[TrainingDomain],
        seed: int,
        epoch: int,
        max_length: int,
        batch_size: int,
        temperature: float = 1.0,
    ) -> None:
        self._domains = {domain.name: domain for domain in domains}
        passes = {d.name: _batches(d, seed, epoch, 0, max_length, batch_size) for d in domains}
        passes = {name: batches for name, batches in passes.items() if batches}
        sizes = np.array([len(batches) for batches in passes.values()], dtype=np.float64)
        weights = sizes**temperature
        shares = np.maximum(1, np.rint(sizes.sum() * weights / max(weights.sum(), 1.0))).astype(int)
        plan: list[_Planned] = []
        for (name, planned), share in zip(passes.items(), shares, strict=True):
            again = 1
            while len(planned) < share:
                # A domain that is drawn more often than it has batches is passed again, cut and mixed anew.
                planned += _batches(self._domains[name], seed, epoch, again, max_length, batch_size)
                again += 1
            plan.extend(planned[:share])
        order = generator(seed, "order", epoch).permutation(len(plan))
        self._plan = [plan[i] for i in order]

    def __len__(self) -> int:
        return len(self._plan)

    def __getitem__(self, step: int) -> Batch:
        name, windows, rows = self._plan[step]
        domain = self._domains[name]
        return collate(name, domain.items, np.asarray(domain.offsets), windows, rows)
