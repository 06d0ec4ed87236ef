"""Coverage, novelty and popularity bias against a loop."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.evaluation.lists import coverage, novelty, popularity_bias


@settings(max_examples=50, deadline=None)
@given(
    lists=st.lists(st.lists(st.integers(0, 6), min_size=3, max_size=3), min_size=1, max_size=8),
    counts=st.lists(st.integers(0, 50), min_size=6, max_size=6),
)
def test_lists_agree_with_brute_force(lists, counts):
    items = [item for row in lists for item in row if item]
    total = sum(counts)
    table, by_item = np.array(lists), np.array([0, *counts])
    assert coverage(table, 6) == pytest.approx(len(set(items)) / 6)
    bits = [-math.log2((counts[item - 1] + 1) / (total + 6)) for item in items]
    assert novelty(table, by_item) == pytest.approx(sum(bits) / max(len(bits), 1), abs=1e-6)
    trained = [count for count in counts for _ in range(count)]  # the popularity that each interaction met
    mean = sum(counts[item - 1] for item in items) / max(len(items), 1)
    expected = mean / (sum(trained) / len(trained)) if trained else 0.0
    assert popularity_bias(table, by_item) == pytest.approx(expected, abs=1e-6)
