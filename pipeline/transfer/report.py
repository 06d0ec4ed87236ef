"""What a target's teacher was chosen from, as one HTML page: no scripts, no other files, light and dark."""

from __future__ import annotations

import json
from html import escape
from pathlib import Path
from typing import Any

from pipeline.evaluation.page import html_page

Row = dict[str, Any]


def write_report(folder: Path, about: Row) -> None:
    """Write `transfer.json`, which is `about`, and `report.html`."""
    (folder / "transfer.json").write_text(json.dumps(about, indent=1, sort_keys=True) + "\n", "utf-8")
    (folder / "report.html").write_text(render_report(about), "utf-8")


def render_report(about: Row) -> str:
    """The page.

    Args:
        about: target; found, a sentence; arms, validation NDCG@10 by name; arm, the one that was kept; popular, β by
            arm; tasks, of `pipeline.transfer.tasks.comparison`; notes, further sentences.
    """
    target = escape(about["target"])
    body = [f"<h1>How was {target}'s teacher made?</h1>", f"<p>{escape(about['found'])}.</p>"]
    body += [f"<p>{escape(note)}.</p>" for note in about["notes"]]
    if about["arms"]:
        body += ["<h2>Ways to fine-tune</h2>", _arms(about)]
    if about["tasks"]:
        body += ["<h2>Several tasks at once</h2>", _tasks(about["tasks"])]
    return html_page(f"{about['target']}: transfer", body)


def _arms(about: Row) -> str:
    rows = ["<tr><th>arm</th><th>NDCG@10</th><th>start at popularity, β</th></tr>"]
    for arm, value in about["arms"].items():
        kept = ' class="served"' if arm == about["arm"] else ""
        strength = about["popular"].get(arm)
        told = "–" if strength is None else f"{strength:g}"
        rows.append(f"<tr{kept}><td>{escape(arm)}</td><td>{value:.4f}</td><td>{told}</td></tr>")
    return (
        '<p class="soft">Validation users, every item ranked, seen ones masked; the arm in bold was kept.</p>'
        f'<div class="wide"><table>{"".join(rows)}</table></div>'
    )


def _tasks(tasks: list[Row]) -> str:
    rows = ["<tr><th>task</th><th>labels</th><th>figure</th><th>with the others</th><th>alone</th></tr>"]
    for task in tasks:
        for name in dict.fromkeys([*task["together"], *task["alone"]]):
            both = "".join(f"<td>{_number(task[whose].get(name))}</td>" for whose in ("together", "alone"))
            rows.append(f"<tr><td>{escape(task['task'])}</td><td>{task['n']:,}</td><td>{name}</td>{both}</tr>")
    return (
        '<p class="soft">On labels of held-out users; alone: the same start and as many steps for the task by itself. '
        f'An R² of 0 says the mean, an AUC of .5 nothing.</p><div class="wide"><table>{"".join(rows)}</table></div>'
    )


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
