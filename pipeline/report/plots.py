"""Points with intervals, one a row, on a common axis: inline SVG placed by percent, so that it fits any width."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

TICKS = 4
SAID_BY_THE_DRAWING = ("passed", "no limit")
FAILING = ("failed", "cannot be judged")


@dataclass(frozen=True)
class Point:
    """A figure and its interval; `kind` is a class of the style sheet."""

    value: float
    low: float
    high: float
    kind: str = ""


@dataclass(frozen=True)
class Row:
    """A row of a plot: its name, what is drawn, the figure in words.

    Attributes:
        limit: drawn as a mark where the figure may not fall below.
        flagged: the note says what is wrong.
    """

    name: str
    points: tuple[Point, ...]
    words: str
    note: str = ""
    kind: str = ""
    limit: float | None = None
    flagged: bool = False


@dataclass(frozen=True)
class Plot:
    """Rows on the axis from `start` to `end`; `zero` draws a line there."""

    rows: tuple[Row, ...]
    start: float
    end: float
    zero: bool = False

    def percent(self, value: float) -> str:
        """Where `value` is drawn."""
        inside = min(max(value, self.start), self.end)
        return f"{100 * (inside - self.start) / ((self.end - self.start) or 1):.2f}%"

    @property
    def ticks(self) -> list[tuple[str, str]]:
        """(percent, words) of the axis."""
        step = (self.end - self.start) / TICKS
        values = [self.start + step * index for index in range(TICKS + 1)]
        return [(self.percent(value), f"{0 if abs(value) < 1e-9 else value:.3g}") for value in values]


def by_model(metrics: dict[str, Any]) -> Plot:
    """NDCG@10 of every model, seen items masked, as in metrics.json."""
    rows = []
    for model in metrics["models"]:
        point = _point(model["masked"]["ndcg10"], _kind(model))
        rows.append(Row(model["name"], (point,), f"{point.value:.4f}", _interval(point), _kind(model)))
    return Plot(tuple(rows), 0.0, _round_up(max(row.points[0].high for row in rows)))


def by_slice(metrics: dict[str, Any]) -> tuple[Plot, str] | None:
    """NDCG@10 of the served model beside the strongest baseline in each part of the test users, and who that is."""
    models = {model["name"]: model for model in metrics["models"]}
    baselines = [model for model in metrics["models"] if model["kind"] == "baseline"]
    if "served" not in models or not baselines:
        return None
    best = max(baselines, key=lambda model: model["masked"]["ndcg10"]["value"])
    rows = []
    for name, part in models["served"]["slices"].items():
        if not part["n"]:
            continue
        ours, theirs = _point(part["ndcg10"], "served"), _point(best["slices"][name]["ndcg10"], "baseline")
        words = f"{ours.value:.4f}"
        rows.append(Row(name, (theirs, ours), words, f"n = {part['n']:,}; {theirs.value:.4f}"))
    if not rows:
        return None
    return Plot(tuple(rows), 0.0, _round_up(max(point.high for row in rows for point in row.points))), best["name"]


def by_comparison(comparisons: list[dict[str, Any]]) -> Plot | None:
    """The gate's paired differences, around zero; rows without finite figures are left out.

    First all test users, against each baseline and the champion; then the guarded parts of them.
    """
    rows = []
    for row in sorted(comparisons, key=lambda one: one.get("part", "all") != "all"):
        if not all(_finite(row.get(key)) for key in ("difference", "low", "high")):
            continue
        tone = "good" if row["low"] > 0 else "bad" if row["high"] < 0 else "even"
        point = Point(row["difference"], row["low"], row["high"], tone)
        part, against = row.get("part", "all"), str(row.get("against", ""))
        name = against if part == "all" else f"{against}, {part}"
        limit = row["limit"] if _finite(row.get("limit")) else None
        status = "" if row.get("status", "passed") in SAID_BY_THE_DRAWING else row["status"]
        rows.append(
            Row(name, (point,), f"{point.value:+.4f}", status or _interval(point, "+"), tone, limit, status in FAILING)
        )
    if not rows:
        return None
    reach = _round_up(max(abs(end) for row in rows for end in (row.points[0].low, row.points[0].high)))
    return Plot(tuple(rows), -reach, reach, zero=True)


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _point(figure: dict[str, float], kind: str) -> Point:
    return Point(figure["value"], figure["low"], figure["high"], kind)


def _kind(model: dict[str, Any]) -> str:
    return "served" if model["name"] == "served" else str(model["kind"])


def _interval(point: Point, sign: str = "") -> str:
    return f"{point.low:{sign}.4f} to {point.high:{sign}.4f}"


def _round_up(value: float) -> float:
    """The next number whose quarters are round, for the axis."""
    if not value > 0 or not math.isfinite(value):
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 1.2, 1.6, 2, 2.4, 2.8, 3.2, 4, 5, 6, 8, 10) if step * power >= value)
