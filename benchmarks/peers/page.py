"""The comparison as one HTML page: curves of validation NDCG@10 over CPU-seconds, and a table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from comparing import Side, Table

WIDTH, HEIGHT, LEFT, BOTTOM = 760, 380, 56, 40
COLOURS = ("#0b6e4f", "#7fb69b", "#b3541e", "#3b5b92")
STYLE = """
body { font: 16px/1.5 system-ui; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
td, th { padding: .2rem .7rem; text-align: left }
svg { overflow: visible }
text { font: 13px system-ui; fill: currentColor }
.axis { stroke: currentColor; opacity: .25 }
"""


def render(table: Table, shop: str, commit: str) -> str:
    """The page."""
    rows = "".join(_row(table, side, colour) for side, colour in zip(table.sides, COLOURS, strict=False))
    head = "".join(
        f"<th>{word}</th>"
        for word in ("", "CPU-s to the best", "validation NDCG@10", "test NDCG@10 [95 %]", "test HR@10", "setting",
                     "settings tried", "CPU-s of all", "ended by")
    )  # fmt: skip
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Peers on {escape(shop)}</title>'
        f"<style>{STYLE}</style><h1>SASRec on {escape(shop)}, {escape(commit)}</h1>"
        "<p>Leave-one-out, every item ranked, seen items masked, one thread. CPU-seconds of training; validating is"
        " counted for ours only. Ours reads text vectors that took"
        f" {table.text_seconds:.0f} CPU-seconds once; <i>IDs only</i> has neither text nor attributes.</p>"
        f"{_curves(table.sides)}<table><tr>{head}</tr>{rows}</table></html>\n"
    )


def _row(table: Table, side: Side, colour: str) -> str:
    value, low, high = table.interval(side.name)
    setting = f"width {side.setting['width']}, dropout {side.setting['dropout']}"
    cells = (
        f"{side.best[0]:.0f}", f"{side.best[1]:.4f}", f"{value:.4f} [{low:.4f}, {high:.4f}]",
        f"{table.hits[side.name].mean():.4f}", setting, side.tried, f"{side.spent:.0f}", side.ended,
    )  # fmt: skip
    return (
        f'<tr><th style="color:{colour}">{escape(side.title)}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'
    )


def _curves(sides: Sequence[Side]) -> str:
    """CPU-seconds on a logarithmic axis."""
    seconds = [second for side in sides for second, _ in side.points]
    start, end = math.floor(math.log10(min(seconds)) * 2) / 2, math.ceil(math.log10(max(seconds)) * 2) / 2
    top = 1.1 * max(side.best[1] for side in sides)

    def at(second: float, value: float) -> tuple[float, float]:
        across = (math.log10(second) - start) / (end - start)
        return LEFT + across * (WIDTH - LEFT - 20), HEIGHT - BOTTOM - value / top * (HEIGHT - BOTTOM - 10)

    parts = []
    for half in range(round(start * 2), round(end * 2) + 1):
        x, y = at(10 ** (half / 2), 0.0)
        tick = f"{round(10 ** (half / 2)):,}"
        parts.append(f'<path class="axis" d="M{x:.1f} {y:.1f}V10"/>{_text(x - 10, y + 20, tick)}')
    for quarter in range(5):
        x, y = at(10**start, top * quarter / 4)
        parts.append(
            f'<path class="axis" d="M{x:.1f} {y:.1f}H{WIDTH - 20}"/>{_text(4, y + 4, f"{top * quarter / 4:.3f}")}'
        )
    for side, colour in zip(sides, COLOURS, strict=False):
        places = [at(*point) for point in side.points]
        line = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
        dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places)
        x, y = places[-1]
        parts.append(f'<path d="M{line}" fill="none" stroke="{colour}" stroke-width="2"/>{dots}')
        parts.append(_text(min(x, WIDTH - 90), y - 8, side.title, colour))
    parts.append(_text(WIDTH / 2, HEIGHT - 4, "CPU-seconds"))
    label = "validation NDCG@10 over CPU-seconds"
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{"".join(parts)}</svg>'


def _text(x: float, y: float, words: str, colour: str = "currentColor") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" style="fill:{colour}">{escape(words)}</text>'
