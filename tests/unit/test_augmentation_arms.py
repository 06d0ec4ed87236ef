"""Every arm answers the same question: as many sequences, as long, with what is given left as it is."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline.augmentation.arms import cropped, generated, popular, repeated
from pipeline.augmentation.asked import Asked, ask_for_thin, tail_items
from pipeline.augmentation.gan.real_sequences import RealSequences
from pipeline.models.generator import GeneratorShape, SequenceGenerator, Space

ITEMS, USERS, THIN, COUNT = 40, 30, 3, 60


@pytest.fixture(scope="module")
def real() -> RealSequences:
    """Users with 0 to 9 different items, low numbers popular."""
    draws = np.random.default_rng(1)
    likes = 1.0 / np.arange(1, ITEMS + 1)
    rows = [1 + draws.choice(ITEMS, user % 10, replace=False, p=likes / likes.sum()) for user in range(USERS)]
    items, offsets = np.concatenate(rows), np.concatenate([[0], np.cumsum([len(row) for row in rows])])
    counts = torch.from_numpy(np.bincount(items, minlength=ITEMS + 1))
    space = Space.of(torch.from_numpy(draws.normal(size=(ITEMS + 1, 5))).float(), counts)
    return RealSequences("t", space, offsets, items, torch.zeros(USERS, 3), distinct=True)


@pytest.fixture(scope="module")
def tail(real) -> np.ndarray:
    return tail_items(np.bincount(real.items, minlength=ITEMS + 1), 0.2)


@pytest.fixture(scope="module")
def asked(real, tail) -> Asked:
    return ask_for_thin(real, tail, COUNT, THIN, 8, seed=3)


def test_thin_users_and_tail_items_are_asked_for(real, tail, asked):
    lengths = np.diff(real.offsets)
    for_items = asked.ending > 0
    assert for_items.sum() == round(0.3 * COUNT)
    assert tail[asked.ending[for_items]].all()
    assert not asked.history[for_items].any()
    for user, history in zip(asked.users[~for_items], asked.history[~for_items], strict=True):
        own = real.items[real.offsets[user] : real.offsets[user + 1]]
        assert 1 <= len(own) <= THIN
        assert history[history > 0].tolist() == own.tolist()
    assert (asked.lengths > (asked.history > 0).sum(1)).all()
    assert asked.lengths[~for_items].max() <= min(8, lengths.max())


@pytest.mark.parametrize("arm", ["generated", "popular"])
def test_what_is_given_stays_and_the_rest_is_made(real, asked, arm):
    model = SequenceGenerator(GeneratorShape(item_width=5, profile_width=3, hidden=8, noise=2))
    rows = generated(model, real, asked, 3) if arm == "generated" else popular(real, asked, 3)
    assert np.diff(rows.offsets).tolist() == asked.lengths.tolist()
    assert rows.users.tolist() == asked.users.tolist()
    for number, sequence in enumerate(rows.padded()):
        items, history = sequence[sequence > 0], asked.history[number][asked.history[number] > 0]
        assert items[: len(history)].tolist() == history.tolist()
        assert len(set(items)) == len(items)
        assert asked.ending[number] in (0, items[-1])
        given = ~rows.made[rows.offsets[number] : rows.offsets[number + 1]]
        assert given.sum() == len(history) + (asked.ending[number] > 0)


def test_crops_and_repetitions_are_real_and_as_many(real, asked):
    sequences = {
        user: real.items[real.offsets[user] : real.offsets[user + 1]].tolist() for user in range(USERS)
    }  # fmt: skip
    crops, again = cropped(real, asked, 3), repeated(real, COUNT, 4, 3)
    assert len(crops) == len(again) == COUNT
    assert not crops.made.any()
    assert not again.made.any()
    assert np.diff(crops.offsets).tolist() == asked.lengths.tolist()
    for rows in (crops, again):
        for user, row in zip(rows.users, rows.padded(), strict=True):
            stretch = row[row > 0].tolist()
            own = sequences[int(user)]
            assert any(own[at : at + len(stretch)] == stretch for at in range(len(own)))
    # every user with a sequence once before any twice
    known = sum(len(own) > 0 for own in sequences.values())
    assert len(set(again.users[:known].tolist())) == known


def test_the_tail_is_what_few_take():
    counts = np.array([0, 50, 30, 10, 5, 5, 0])
    assert np.flatnonzero(tail_items(counts, 0.1)).tolist() == [4, 5]
    assert np.flatnonzero(tail_items(counts, 0.05)).tolist() == [4, 5]  # as popular as the last of them
    assert not tail_items(np.zeros(4), 0.2).any()
