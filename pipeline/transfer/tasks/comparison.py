"""Is a task better off with the others? Each beside the same start and steps for itself alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.transfer.arms import FineTuning
from pipeline.transfer.tasks.figures import FIRST

Row = dict[str, Any]


def compared(tuning: FineTuning, history: Sequence[Mapping[str, Any]], scratch: Path) -> list[Row]:
    """A row for every task: name, kind, number of held-out labels, figures `together` and `alone`.

    Args:
        tuning: whose arm multi_task is trained.
        history: of that arm; a task alone takes as many epochs as were kept of it.
        scratch: a folder for checkpoints.
    """
    values = {row["epoch"]: row["valid_ndcg10"] for row in history if "valid_ndcg10" in row}
    epochs = max(values, key=values.__getitem__) if values else history[-1]["epoch"]
    rows = []
    for task in tuning.tasks[0]:
        alone = tuning.train_task_alone(task, max(1, epochs), scratch).get(task.name, {})
        together = tuning.together.get(task.name, {})
        told = {"task": task.name, "kind": task.kind, "n": int(task.held.sum()), "first": FIRST[task.kind]}
        rows.append({**told, "together": together, "alone": alone})
    return rows


def sentence(rows: Sequence[Row]) -> str:
    """The first figure of every task, together and alone."""
    said = []
    for row in rows:
        name, both = row["first"], [row[whose].get(row["first"]) for whose in ("together", "alone")]
        figures = " against ".join("–" if value is None else f"{value:.3f}" for value in both)
        said.append(f"{row['task']} {name} {figures}")
    return f"tasks together against each alone: {', '.join(said)}"


def metrics(rows: Sequence[Row]) -> dict[str, float]:
    """For tracking: `task.<name>.<figure>`, and the same with `_alone`."""
    endings = (("together", ""), ("alone", "_alone"))
    return {
        f"task.{row['task']}.{figure}{ending}": value
        for row in rows
        for whose, ending in endings
        for figure, value in row[whose].items()
    }
