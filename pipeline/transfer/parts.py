"""The parts of the test users that transfer is about, beside thin histories and the tail: who and what is new.

The four states are those of MeLU (KDD 2019, arXiv 1908.00413): known and new users, each with known and new items.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.augmentation.parts import ALL, Part
from pipeline.data.sequences import Array

NEW_ITEMS, TRAINED_ITEMS = "new items", "trained items"


def with_states(figures: Mapping[str, Array], parts: Sequence[Part]) -> dict[str, Array]:
    """The figures of `parts`, and those of all users by item and by state; states without a row are left out.

    A new item has no training interaction, a new user no earlier one.
    """
    found = dict(figures)
    for part in [part for part in parts if part.name == ALL]:
        new_item, new_user = part.holdout.item_slice == "cold", part.holdout.history_lengths == 0
        rows = {
            NEW_ITEMS: new_item,
            TRAINED_ITEMS: ~new_item,
            "known users, known items": ~new_user & ~new_item,
            "known users, new items": ~new_user & new_item,
            "new users, known items": new_user & ~new_item,
            "new users, new items": new_user & new_item,
        }
        found |= {name: figures[ALL][mask] for name, mask in rows.items() if mask.any()}
    return found
