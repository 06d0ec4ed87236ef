"""A figure by day: lines with intervals as inline SVG. Colours are classes, so that light and dark are the style's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 360, 230  # so that text of 11 px can be read on a phone, where it is drawn at this size
LEFT, RIGHT, TOP, BOTTOM = 34, 12, 22, 30
TICKS = 4


@dataclass(frozen=True)
class Line:
    """One line: a value a day, its interval where it has one; `kind` is a class of the style."""

    name: str
    kind: str
    values: Sequence[float]
    intervals: Sequence[tuple[float, float]] | None = None


def chart(
    title: str, days: Sequence[str], lines: Sequence[Line], marks: Sequence[str], top: float, by: str = "day"
) -> str:
    """The drawing.

    Args:
        days: names below the axis.
        lines: what is drawn, the last one on top.
        marks: a word above each day (the version that was promoted the night before), "" for none.
        top: where the axis ends; it begins at 0.
        by: what stands below the axis, for readers of the page who cannot see it.
    """
    width, height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    pitch = width / max(1, len(days))

    def x(place: int) -> float:
        return LEFT + pitch * (place + 0.5)

    def y(value: float) -> float:
        return TOP + height * (1 - min(max(value, 0.0), top) / top)

    drawn = []
    for tick in range(TICKS + 1):
        at = top * tick / TICKS
        drawn.append(f'<path class="rule" d="M{LEFT} {y(at):.1f}H{WIDTH - RIGHT}"/>')
        drawn.append(f'<text class="tick" x="{LEFT - 6}" y="{y(at) + 4:.1f}" text-anchor="end">{at:.3g}</text>')
    every = max(1, -(-len(days) // 7))  # more names than seven would touch each other
    for place, (day, mark) in enumerate(zip(days, marks, strict=True)):
        if place % every == 0:
            drawn.append(
                f'<text class="tick" x="{x(place):.1f}" y="{HEIGHT - 10}" text-anchor="middle">{escape(day)}</text>'
            )
        if mark:
            edge = x(place) - pitch / 2
            drawn.append(f'<path class="mark" d="M{edge:.1f} {TOP - 4}V{HEIGHT - BOTTOM}"/>')
            drawn.append(
                f'<text class="marked" x="{edge:.1f}" y="{TOP - 9}" text-anchor="middle">{escape(mark)}</text>'
            )
    shift = min(4.0, pitch / 8)  # intervals of two lines stand beside each other
    for number, line in enumerate(lines):
        aside = shift * (number - (len(lines) - 1) / 2)
        points = [(x(place) + aside, y(value)) for place, value in enumerate(line.values)]
        path = "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in points)
        if len(points) == 1 and not line.intervals:  # a line of one day, with no point to mark it
            path = f"M{points[0][0] - 20:.1f} {points[0][1]:.1f}h40"
        drawn.append(f'<g class="{line.kind}"><path class="line" d="{path}"/>')
        for (a, b), (low, high), value in zip(points, line.intervals or (), line.values, strict=bool(line.intervals)):
            said = f"{line.name}: {value:.3f} [{low:.3f}, {high:.3f}]"
            drawn.append(
                f'<g><title>{escape(said)}</title><path class="interval" d="M{a:.1f} {y(low):.1f}V{y(high):.1f}"/>'
                f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3"/></g>'
            )
        drawn.append("</g>")
    return (
        f'<figure><figcaption>{escape(title)}</figcaption><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img"'
        f' aria-label="{escape(title)} by {escape(by)}">{"".join(drawn)}</svg></figure>'
    )
