"""Made against real sequences: the figures know equal from different, and fresh from copied."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.augmentation.copies import copied_share
from pipeline.augmentation.likeness import (
    density_and_coverage,
    features,
    likeness,
    popularity_divergence,
    transition_agreement,
)

ITEMS = 40
GROUPS = np.concatenate([[-1], np.arange(ITEMS) % 4])
SEEN = np.zeros((ITEMS + 1, 6), dtype=np.float32)
SEEN[1:] = np.eye(4, 6)[GROUPS[1:]] + 0.2 * np.random.default_rng(0).normal(size=(ITEMS, 6))


def walks(seed: int, n: int = 200, length: int = 8) -> np.ndarray:
    """Sequences that mostly step from group to group, popular items first within a group."""
    draws = np.random.default_rng(seed)
    weight = 1.0 / (1 + np.arange(ITEMS) // 4)
    rows = np.zeros((n, length), dtype=np.int64)
    for row in range(n):
        group = int(draws.integers(4))
        for step in range(length - int(draws.integers(3))):
            group = (group + 1) % 4 if draws.random() < 0.8 else int(draws.integers(4))
            own = np.flatnonzero(GROUPS[1:] == group)
            rows[row, step] = 1 + draws.choice(own, p=weight[own] / weight[own].sum())
    return rows


REAL, SAME = walks(1), walks(2)
GARBAGE = np.where(REAL > 0, np.random.default_rng(3).integers(30, ITEMS + 1, REAL.shape), 0)


def test_sequences_of_the_same_law_cannot_be_told():
    found = likeness(REAL, SAME, SEEN, seed=7)
    assert found.two_sample == pytest.approx(0.5, abs=0.09)
    assert found.density == pytest.approx(1.0, abs=0.25)
    assert found.coverage > 0.9
    assert found.popularity_divergence < 0.02
    assert found.transition_agreement > 0.85
    assert found.nearest == pytest.approx(1.0, abs=0.15)


def test_garbage_is_told_at_once():
    found = likeness(REAL, GARBAGE, SEEN, seed=7)
    assert found.two_sample > 0.9
    assert found.coverage < 0.3
    assert found.popularity_divergence > 0.3
    assert found.transition_agreement < 0.7


def test_copies_are_found():
    copied = REAL[np.random.default_rng(4).permutation(len(REAL))]
    assert copied_share(copied, REAL) == 1.0
    assert likeness(REAL, copied, SEEN, seed=7).nearest == 0.0
    assert copied_share(SAME, REAL) < 0.05
    # a stretch of a real sequence is a copy too; its own owner does not count
    stretch = np.array([[*REAL[5, 1:5], 0]])
    assert copied_share(stretch, REAL) == 1.0
    assert copied_share(stretch, REAL, np.array([5])) == 0.0


def test_two_items_in_a_row_are_no_copy():
    assert copied_share(REAL[:1, :2], REAL) == 0.0


def test_figures_by_hand():
    points = np.arange(10.0)[:, None]
    assert density_and_coverage(points, points, neighbours=2)[1] == 1.0
    assert density_and_coverage(points, points + 1000, neighbours=2) == (0.0, 0.0)
    assert popularity_divergence(np.array([1, 1, 2]), np.array([2, 1, 1]), 4) == 0.0
    assert popularity_divergence(np.array([1]), np.array([2]), 4) == pytest.approx(1.0)
    groups = np.array([-1, 0, 1])
    there = np.array([[1, 2, 1, 2]])
    assert transition_agreement(there, there, groups) == 1.0
    assert transition_agreement(there, np.array([[1, 1, 1, 1]]), groups) == pytest.approx(0.0)


def test_padding_is_not_seen():
    short = REAL[:, :5]
    assert np.array_equal(features(short, SEEN), features(np.pad(short, ((0, 0), (0, 4))), SEEN))
