"""The parts of the test users that transfer is about, beside thin histories and the tail: who and what is new.

The four states are those of MeLU (KDD 2019, arXiv 1908.00413): known and new users, each with known and new items.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from pipeline.augmentation.parts import ALL, Part
from pipeline.data.sequences import Array
from pipeline.data.training_set import DomainData

NEW_ITEMS, TRAINED_ITEMS = "new items", "trained items"
STATES = ("known users, known items", "known users, new items", "new users, known items", "new users, new items")


def with_states(figures: Mapping[str, Array], parts: Sequence[Part], data: DomainData) -> dict[str, Array]:
    """The figures of `parts`, and those of all users by item and by state; states without a row are left out.

    A new item has no training interaction, nor has a new user; before the test item a new user may have a history,
    which no model has trained on: it is read when the user is ranked for.
    """
    found, trains = dict(figures), np.diff(data.offsets) > 0
    for part in [part for part in parts if part.name == ALL]:
        new_item, new_user = part.holdout.item_slice == "cold", ~trains[part.holdout.user_index]
        states = (~new_user & ~new_item, ~new_user & new_item, new_user & ~new_item, new_user & new_item)
        rows = {NEW_ITEMS: new_item, TRAINED_ITEMS: ~new_item, **dict(zip(STATES, states, strict=True))}
        found |= {name: figures[ALL][mask] for name, mask in rows.items() if mask.any()}
    return found
