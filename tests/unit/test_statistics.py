"""Bootstrap intervals: seeded, of the right width, paired."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.evaluation.statistics import bootstrap, paired_difference


def test_interval_has_the_width_of_the_normal_approximation():
    values = np.random.default_rng(1).normal(3.0, 2.0, size=400)
    found = bootstrap({"x": values}, 2000, 0.95, seed=3)["x"]
    half = 1.96 * values.std() / np.sqrt(400)
    assert found.value == pytest.approx(values.mean())
    assert found.high - found.low == pytest.approx(2 * half, rel=0.1)
    assert found.n == 400


def test_same_seed_same_interval_and_another_seed_another():
    values = np.arange(50.0)
    again = [bootstrap({"x": values}, 200, 0.9, seed)["x"] for seed in (1, 1, 2)]
    assert again[0] == again[1] != again[2]


def test_difference_is_paired():
    draws = np.random.default_rng(5)
    hard = draws.normal(size=300)  # what makes a user hard is shared by both models
    difference = paired_difference(hard + 0.1, hard, 500, 0.95, seed=0)
    assert difference.low == pytest.approx(0.1)
    assert difference.high == pytest.approx(0.1)


def test_no_users_no_estimate():
    found = bootstrap({"x": np.zeros(0)}, 10, 0.95, seed=0)["x"]
    assert (found.value, found.n) == (0.0, 0)


def test_one_user_has_an_interval_of_no_width():
    found = bootstrap({"x": np.array([0.3])}, 10, 0.95, seed=0)["x"]
    assert (found.low, found.value, found.high) == pytest.approx((0.3, 0.3, 0.3))
