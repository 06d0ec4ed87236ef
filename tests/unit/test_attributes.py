"""The attribute hash: the same everywhere and for ever, or models of earlier runs would read other attributes."""

from __future__ import annotations

import numpy as np

from pipeline.models.attributes import LONGEST_BAG, bucket_of, padded_bags
from pipeline.models.padding import left_padded, right_padded


def test_buckets_are_fixed_for_ever():
    assert [bucket_of(text, 1000) for text in ("brand:Sunday Club", "marca:Ñandú", "")] == [575, 99, 757]


def test_buckets_start_at_one():
    assert {bucket_of(str(i), 3) for i in range(100)} == {1, 2, 3}


def test_bags_are_padded_and_bounded():
    bags = padded_bags([[], ["a"], [str(i) for i in range(100)]], 50)
    assert bags.shape == (3, LONGEST_BAG)
    assert bags.dtype == np.int64
    assert (bags[0] == 0).all()
    assert (bags[1] > 0).sum() == 1
    assert padded_bags([[]], 50).shape == (1, 1)
    assert padded_bags([], 50).shape == (0, 1)


def test_histories_keep_their_latest_items():
    assert left_padded([[1, 2, 3], [], [4]], 2).tolist() == [[2, 3], [0, 0], [0, 4]]
    assert left_padded([[]], 5).tolist() == [[0]]
    assert right_padded([[1, 2, 3], [], [4]]).tolist() == [[1, 2, 3], [0, 0, 0], [4, 0, 0]]
