"""A sweep as one HTML page: two plots and a table; no scripts, no other files, light and dark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Any

from pipeline.evaluation.page import html_page

Row = dict[str, Any]
PLOT = """
svg { max-width: 46rem; width: 100%; height: auto; display: block; }
svg text { font-size: 11px; fill: var(--soft); } svg .edge { stroke: var(--line); }
svg circle { fill: var(--baseline); } svg circle.best { fill: var(--ours); }
svg polyline { fill: none; stroke: var(--ours); stroke-width: 1.5; } svg .teacher { stroke: var(--oracle); }
"""
WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 720.0, 300.0, 56.0, 36.0, 12.0


def render_report(found: Row) -> str:
    """The page; `found` is sweep.json."""
    target, level = escape(found["target"]), found["teacher"]["ndcg10"]
    served = [row for row in found["points"] if row["export"] != "torch"]
    body = [
        f"<h1>What does a smaller model of {target} cost?</h1>",
        f'<p class="soft">{found["n"]:,} test users, full ranking, seen items masked; the line across is the teacher. '
        "Blue: no other model is as cheap and better, or as good and cheaper.</p>",
        "<h2>NDCG@10 against bytes</h2>",
        _plot(served, "bytes", "bytes of the served file", found["by_bytes"], level),
        "<h2>NDCG@10 against latency</h2>",
        _plot(served, "p50_ms", "ms, median of one request on one thread", found["by_p50_ms"], level),
        "<h2>Every point</h2>",
        f'<p class="soft">Of the teacher\'s NDCG@10, {found["confidence"]:.0%} intervals; beside it what the same '
        "student keeps without its teacher, and a model of the teacher's size from random weights.</p>",
        _table([found["teacher"], *found["points"]]),
        *(
            f'<p class="soft">{escape(row["student"])}, {escape(row["export"])}: refused. {escape(row["why"])}</p>'
            for row in found["refused"]
        ),
    ]
    return html_page(f"{found['target']}: compression", body, PLOT)


def _plot(rows: Sequence[Row], cost: str, title: str, best: Sequence[str], teacher: float) -> str:
    costs, top = [math.log10(row[cost]) for row in rows], 1.05 * (max(teacher, *(row["ndcg10"] for row in rows)) or 1.0)
    low, span = min(costs), (max(costs) - min(costs)) or 1.0
    base = HEIGHT - BOTTOM

    def across(row: Row) -> float:
        return LEFT + (WIDTH - LEFT - 20) * (math.log10(row[cost]) - low) / span

    def up(value: float) -> float:
        return base - (base - TOP) * value / top

    marks, line = [], []
    for row in sorted(rows, key=lambda row: row[cost]):
        name = f"{row['student']}: {row['export']}"
        x, y, on = across(row), up(row["ndcg10"]), name in best
        marks.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{5 if on else 3.5}" class="{"best" if on else ""}">'
            f"<title>{escape(name)}: {row['ndcg10']:.4f}, {row[cost]:,} {cost}</title></circle>"
        )
        line += [f"{x:.1f},{y:.1f}"] if on else []
    return (
        f'<svg viewBox="0 0 {WIDTH:g} {HEIGHT:g}" role="img" aria-label="NDCG@10 by {escape(title)}">'
        f'<line class="edge" x1="{LEFT}" y1="{base}" x2="{WIDTH}" y2="{base}"/>'
        f'<line class="edge" x1="{LEFT}" y1="{TOP}" x2="{LEFT}" y2="{base}"/>'
        f'<line class="teacher" x1="{LEFT}" y1="{up(teacher):.1f}" x2="{WIDTH}" y2="{up(teacher):.1f}"/>'
        f'<text x="2" y="{up(teacher) + 4:.1f}">{teacher:.4f}</text><text x="2" y="{base}">0</text>'
        f'<text x="{LEFT}" y="{HEIGHT - 8}">{escape(title)}, from {10**low:,.3g} to {10 ** (low + span):,.3g}, '
        f"logarithmic</text>"
        f'<polyline points="{" ".join(line)}"/>{"".join(marks)}</svg>'
    )


def _table(rows: Sequence[Row]) -> str:
    cells = [
        "<tr><th>student</th><th>export</th><th>parameters</th><th>bytes</th><th>p50 ms</th><th>NDCG@10</th>"
        "<th>of the teacher</th><th>untaught</th><th>teacher-sized</th></tr>"
    ]
    for row in rows:
        shares = "".join(f"<td>{_share(row.get(key))}</td>" for key in ("retention", "untaught", "teacher_sized"))
        cells.append(
            f"<tr><td>{escape(row['student'])}</td><td>{escape(row['export'])}</td><td>{row['parameters']:,}</td>"
            f"<td>{row['bytes']:,}</td><td>{row['p50_ms']:.3f}</td><td>{row['ndcg10']:.4f}</td>{shares}</tr>"
        )
    return f'<div class="wide"><table>{"".join(cells)}</table></div>'


def _share(kept: Row | None) -> str:
    if kept is None:
        return "–"
    return f"{kept['value']:.1%}<small>{kept['low']:.1%} – {kept['high']:.1%}</small>"
