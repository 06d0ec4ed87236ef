"""Attributes as numbers: a stable hash into buckets, so that all domains and all runs share one table.

No vocabulary has to travel with a model: an attribute seen for the first time while serving has a bucket too.
Numpy and the standard library only; serving imports this without torch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache

import numpy as np
import numpy.typing as npt

LONGEST_BAG = 32  # attributes of one item or user that count; the rest add little to a mean and cost memory


@cache
def bucket_of(attribute: str, buckets: int) -> int:
    """The bucket of an attribute, 1 to `buckets`; 0 is padding. The same on every machine and in every process."""
    digest = hashlib.blake2b(attribute.encode("utf-8"), digest_size=8).digest()
    return 1 + int.from_bytes(digest, "little") % buckets


def padded_bags(attributes: Sequence[Sequence[str]], buckets: int) -> npt.NDArray[np.int64]:
    """Hash each row's attributes: int64 [rows, longest bag, at least 1], 0 after the last attribute."""
    longest = max((min(len(row), LONGEST_BAG) for row in attributes), default=0)
    bags = np.zeros((len(attributes), max(longest, 1)), dtype=np.int64)
    for i, row in enumerate(attributes):
        for j, attribute in enumerate(row[:LONGEST_BAG]):
            bags[i, j] = bucket_of(attribute, buckets)
    return bags
