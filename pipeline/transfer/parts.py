"""The parts of the test users that transfer is about: thin histories, the tail, and items new to the model."""

from __future__ import annotations

from pipeline.augmentation.parts import ALL, Part, cut, parts_of
from pipeline.data.sequences import Array
from pipeline.data.training_set import DomainData

NEW_ITEMS, TRAINED_ITEMS = "new items", "trained items"


def transfer_parts(data: DomainData, split: str, tail: Array, limit: int, seed: int) -> list[Part]:
    """As `parts_of`, and rows by whether their item has training interactions; empty ones are left out."""
    parts = parts_of(data, split, tail, limit, seed)
    every = next((part.rows for part in parts if part.name == ALL), None)
    if every is None:
        return []
    holdout = data.holdout(split)
    is_new = holdout.item_slice[every] == "cold"
    for name, rows in ((NEW_ITEMS, every[is_new]), (TRAINED_ITEMS, every[~is_new])):
        if len(rows):
            parts.append(Part(name, cut(holdout, rows, None), rows, thin=False))
    return parts
