"""Parts of the test users that a mean hides: without history, with little, and items nobody has chosen yet."""

from __future__ import annotations

from pipeline.data.sequences import Array
from pipeline.data.training_set import Holdout

USER_SLICES = ("warm", "few", "cold")
ITEM_SLICES = ("warm", "cold")
MEANING = {
    "user warm": "users with more than 5 earlier interactions",
    "user few": "users with 1 to 5 earlier interactions",
    "user cold": "users with no earlier interaction",
    "item warm": "held-out items with training interactions",
    "item cold": "held-out items never seen in training",
}


def slices_of(holdout: Holdout) -> dict[str, Array]:
    """Name to bool [n], in the order of `MEANING`; parts without a row are included."""
    users = {f"user {name}": holdout.user_slice == name for name in USER_SLICES}
    return users | {f"item {name}": holdout.item_slice == name for name in ITEM_SLICES}
