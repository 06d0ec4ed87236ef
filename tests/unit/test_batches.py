"""From sequences to batches: nothing lost, nothing repeated, little padding, the same for the same seed."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from pipeline.training.batches import POSITIONS, EpochBatches, TrainingDomain, cut_windows
from pipeline.training.randomness import generator


def domain(lengths: list[int], name: str = "d") -> TrainingDomain:
    """Items are numbered through, so that every interaction can be told apart."""
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return TrainingDomain(name, offsets, np.arange(1, offsets[-1] + 1, dtype=np.int32))


@pytest.mark.parametrize("max_length", [1, 4, 10])
@pytest.mark.parametrize("epoch", [0, 1, 2])
def test_every_interaction_is_a_target_exactly_once(max_length, epoch):
    source = domain([1, 2, 0, 5, 23, 10, 11, 12, 1, 40])
    batches = EpochBatches([source], seed=3, epoch=epoch, max_length=max_length, batch_size=3)
    targets = Counter()
    for step in range(len(batches)):
        batch = batches[step]
        targets.update(batch.targets[batch.targets > 0].tolist())
        assert batch.history.shape[1] <= max_length
        assert batch.targets.shape == (len(batch.users), 1 + batch.history.shape[1])
        there = batch.targets > 0
        assert (source.items[batch.places[there]] == batch.targets[there]).all()
    assert targets == Counter(range(1, len(source.items) + 1))


def test_a_target_follows_what_is_read():
    source = domain([3, 9])
    batches = EpochBatches([source], seed=0, epoch=0, max_length=4, batch_size=8)
    for step in range(len(batches)):
        batch = batches[step]
        for history, targets in zip(batch.history, batch.targets, strict=True):
            for item, target in zip(history, targets[1:], strict=True):
                assert target == (item + 1 if item else 0)
            present = history[history > 0]
            assert (np.sort(present) == present).all()
            assert (history[: len(history) - len(present)] == 0).all()  # padding stands on the left


def test_only_the_first_window_of_a_user_is_opened_by_the_profile():
    source = domain([30])
    batches = EpochBatches([source], seed=0, epoch=0, max_length=5, batch_size=100)
    opened = [target for step in range(len(batches)) for target in batches[step].targets[:, 0] if target]
    assert opened == [1]


def test_cuts_of_long_histories_move_between_epochs():
    offsets = np.array([0, 200])
    cuts = {tuple(cut_windows(offsets, 10, generator(1, "epoch", epoch)).starts) for epoch in range(5)}
    assert len(cuts) > 1


def test_batches_are_of_like_length():
    lengths = np.random.default_rng(0).integers(1, 40, size=2000).tolist()
    batches = EpochBatches([domain(lengths)], seed=0, epoch=0, max_length=50, batch_size=32)
    cells = sum(batches[step].targets.size for step in range(len(batches)))
    assert sum(lengths) / cells > 0.85


@pytest.mark.parametrize("lengths", [[200] * 100, [1] * 50 + [160] * 50, [POSITIONS + 1, POSITIONS, 3]])
def test_a_batch_of_long_histories_is_split(lengths):
    batches = EpochBatches([domain(lengths)], seed=0, epoch=0, max_length=2 * POSITIONS, batch_size=100)
    found = [batches[step] for step in range(len(batches))]
    assert sum(batch.n_targets for batch in found) == sum(lengths)
    assert all(batch.n_targets <= POSITIONS or len(batch.users) == 1 for batch in found)


def test_same_seed_same_batches_and_another_epoch_others():
    def first(seed, epoch):
        batches = EpochBatches([domain([3] * 50)], seed, epoch, max_length=5, batch_size=8)
        return [batches[step].users.tolist() for step in range(len(batches))]

    assert first(1, 0) == first(1, 0)
    assert first(1, 0) != first(1, 1)
    assert first(1, 0) != first(2, 0)


def test_temperature_balances_domains():
    large, small = domain([3] * 900, "large"), domain([3] * 100, "small")

    def share(temperature):
        batches = EpochBatches([large, small], 0, 0, max_length=5, batch_size=10, temperature=temperature)
        return np.mean([batches[step].domain == "small" for step in range(len(batches))])

    assert share(1.0) == pytest.approx(0.1)
    assert share(0.0) == pytest.approx(0.5)
    assert 0.1 < share(0.5) < 0.5


def test_a_domain_without_interactions_takes_no_part():
    batches = EpochBatches([domain([0, 0], "empty"), domain([2, 2], "full")], 0, 0, max_length=5, batch_size=4)
    assert {batches[step].domain for step in range(len(batches))} == {"full"}
    assert len(EpochBatches([domain([0], "empty")], 0, 0, max_length=5, batch_size=4)) == 0
