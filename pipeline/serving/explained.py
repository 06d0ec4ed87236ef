"""Why these items: the past items that carried each of them, in words of the data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.data.sequences import Array
from pipeline.serving.champion import Champion

CARRIERS = 5  # past items that an explanation names for each item


def explained(
    champion: Champion, history: list[int], profile: Array, attributes: Sequence[str], rows: Sequence[int]
) -> list[list[dict[str, Any]]]:
    """For each row of the catalogue its carriers, the strongest first (`messages.Carrier`). Blocks."""
    ids, has = champion.item_ids, champion.model.catalogue.attributes
    found = champion.model.explain_all(history, profile, attributes, list(rows))
    return [
        [
            {
                "item_id": ids[one.row],
                "share": one.share,
                "similarity": one.similarity,
                "attributes": [attribute for attribute in has[one.row] if attribute in has[item]],
            }
            for one in carriers[:CARRIERS]
        ]
        for item, carriers in zip(rows, found, strict=True)
    ]
