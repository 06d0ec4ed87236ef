"""Where an arm's sequences come from: the generator, popular items, stretches of real sequences, repetition."""

from __future__ import annotations

import numpy as np
import torch

from pipeline.augmentation.asked import Asked
from pipeline.augmentation.gan.real_sequences import RealSequences
from pipeline.augmentation.rows import Rows
from pipeline.data.sequences import Array
from pipeline.models.generator import Condition, SequenceGenerator
from pipeline.training.randomness import generator, seed_torch

NONE, GAN = "none", "gan"  # arms by name; all others are controls
ROWS_AT_ONCE = 256


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
    draws = generator(seed, real.name, "popular")
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
