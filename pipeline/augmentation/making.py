"""What is asked for, and four ways to answer: the generator, popular items, stretches of real sequences, repetition.

All answer the same question with as many sequences of the same lengths, so that a gain of one over another is not one
of volume.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from pipeline.augmentation.rows import Rows
from pipeline.data.sequences import Array
from pipeline.models.generator import Condition, SequenceGenerator
from pipeline.training.adversarial import RealSequences
from pipeline.training.randomness import derived_seed, generator, seed_torch

ROWS_AT_ONCE = 256
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


@torch.no_grad()
def generated(model: SequenceGenerator, real: RealSequences, asked: Asked, seed: int) -> Rows:
    """The generator's answer."""
    parts = []
    for start in range(0, len(asked), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        seed_torch(seed, real.name, "generated", start)
        users, ending = asked.users[rows], torch.from_numpy(asked.ending[rows])
        condition = Condition(real.profiles[users], ending, torch.from_numpy(asked.history[rows]))
        before = torch.from_numpy(asked.lengths[rows]) - (ending > 0).long()
        noise = torch.randn(len(users), model.shape.noise)
        items, _ = model.generate(real.space, condition, noise, before, 1.0, real.distinct)
        parts.append(items.numpy())
    return _answer(asked, _stacked(parts))


def popular(real: RealSequences, asked: Asked, seed: int) -> Rows:
    """Popularity-matched resampling: the same histories and endings, all else drawn by training interactions."""
    counts = np.bincount(real.items, minlength=len(real.space.vectors)).astype(np.float64)
    log_counts = np.log(counts, out=np.full(len(counts), -np.inf), where=counts > 0)
    width = int(asked.lengths.max(initial=0))
    items = np.zeros((len(asked), width), dtype=np.int64)
    draws = np.random.default_rng(derived_seed(seed, real.name, "popular"))
    for row in range(len(asked)):
        history = asked.history[row][asked.history[row] > 0]
        scores = log_counts + draws.gumbel(size=len(log_counts))  # the highest n are n draws without repetition
        scores[history] = scores[asked.ending[row]] = -np.inf
        wanted = int(asked.lengths[row]) - len(history) - int(asked.ending[row] > 0)
        drawn = np.argpartition(-scores, min(wanted, len(scores) - 1))[:wanted]
        drawn = drawn[np.argsort(-scores[drawn])]
        drawn = drawn[np.isfinite(scores[drawn])]
        items[row, : len(history)] = history
        items[row, len(history) : len(history) + len(drawn)] = drawn
    return _answer(asked, items)


def cropped(real: RealSequences, asked: Asked, seed: int) -> Rows:
    """Item-crop (CL4SRec, arXiv 2010.14395): stretches of real sequences, as long as asked for or as there are."""
    draws = generator(seed, real.name, "cropped")
    lengths = np.diff(real.offsets)
    by_length = np.argsort(lengths, kind="stable")
    items = np.zeros((len(asked), int(asked.lengths.max(initial=0))), dtype=np.int64)
    users = np.zeros(len(asked), dtype=np.int64)
    for row, wanted in enumerate(asked.lengths):
        first = min(int(np.searchsorted(lengths[by_length], wanted)), len(by_length) - 1)
        users[row] = user = int(by_length[int(draws.integers(first, len(by_length)))])
        kept = min(int(wanted), int(lengths[user]))
        start = int(real.offsets[user]) + int(draws.integers(0, lengths[user] - kept + 1))
        items[row, :kept] = real.items[start : start + kept]
    return Rows.of(items, users, np.zeros(items.shape, dtype=bool))


def repeated(real: RealSequences, count: int, longest: int, seed: int) -> Rows:
    """Real sequences once more, every user before any twice: no augmentation, the same compute."""
    users = np.flatnonzero(np.diff(real.offsets) > 0)
    draws = generator(seed, real.name, "repeated")
    order = np.concatenate([draws.permutation(users) for _ in range(-(-count // max(1, len(users))))])[:count]
    stretches = [real.items[real.offsets[user] : real.offsets[user + 1]][-longest:] for user in order]
    items = np.zeros((count, max(map(len, stretches), default=0)), dtype=np.int64)
    for row, stretch in enumerate(stretches):
        items[row, : len(stretch)] = stretch
    return Rows.of(items, order, np.zeros(items.shape, dtype=bool))


def _answer(asked: Asked, items: Array) -> Rows:
    """Add the endings, and say what was made."""
    items = np.pad(items, ((0, 0), (0, 1)))
    lengths = (items > 0).sum(1)
    ended = np.flatnonzero(asked.ending)
    items[ended, lengths[ended]] = asked.ending[ended]
    places = np.arange(items.shape[1])[None]
    made = (places >= (asked.history > 0).sum(1)[:, None]) & (places < lengths[:, None])
    return Rows.of(items, asked.users, made)


def _stacked(parts: list[Array]) -> Array:
    width = max((part.shape[1] for part in parts), default=0)
    padded = [np.pad(part, ((0, 0), (0, width - part.shape[1]))) for part in parts]
    return np.concatenate(padded) if padded else np.zeros((0, 0), dtype=np.int64)
