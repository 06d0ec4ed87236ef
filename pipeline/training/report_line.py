"""What a training found, in one line for people and in figures for tracking."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def found_line(parameters: int, history: Sequence[Mapping[str, Any]]) -> tuple[str, dict[str, float]]:
    """The line and its figures, from the rows that `fit` returned."""
    epochs = max((row["epoch"] for row in history), default=0)
    line = f"{parameters:,} parameters, {epochs} epochs"
    figures: dict[str, float] = {"parameters": parameters, "epochs": epochs}
    values = [row["valid_ndcg10"] for row in history if "valid_ndcg10" in row]
    if not values:
        return f"{line}; no validation rows, so no early stopping: the last epoch is kept", figures
    return f"{line}, valid NDCG@10 {max(values):.4f}", {**figures, "valid_ndcg10": max(values)}
