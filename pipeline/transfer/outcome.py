"""The outcomes of an experiment as one table and one plot: means over the users of all seeds, with their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

from pipeline.augmentation.parts import ALL
from pipeline.data.sequences import Array
from pipeline.evaluation.page import html_page
from pipeline.evaluation.statistics import Estimate, bootstrap
from pipeline.simulation.chart import Line, chart
from pipeline.training.randomness import generator
from pipeline.transfer.experiment import pick
from pipeline.transfer.experiment_arms import FUSED, LONG, ORACLE, ZERO_SHOT, Outcome
from pipeline.transfer.params import SCRATCH

PICKED = "picked by validation"
RESAMPLES, CONFIDENCE = 1000, 0.95
# arms of the plot: class of the style, and the colour's name
DRAWN = {
    SCRATCH: ("popularity", "grey"),
    "EASE": ("simple", "dashed"),
    ZERO_SHOT: ("oracle", "amber"),
    "multi-task": ("tasks", "green"),
    FUSED: ("fused", "red"),
    PICKED: ("served", "blue"),
}
PALETTE = """
figure { margin: 1rem 0 1rem 1.5rem; max-width: 34rem; } figure svg { width: 100%; height: auto; overflow: visible; }
svg text { font-size: 11px; fill: var(--soft); } svg .rule { stroke: var(--line); }
svg .line { fill: none; stroke-width: 2; } svg .interval { stroke-width: 1.5; }
svg .popularity * { stroke: var(--baseline); } svg .popularity circle { fill: var(--baseline); }
svg .served * { stroke: var(--ours); } svg .served circle { fill: var(--ours); }
svg .oracle * { stroke: var(--oracle); } svg .oracle circle { fill: var(--oracle); }
svg .simple * { stroke: var(--baseline); stroke-dasharray: 4 3; } svg .simple circle { fill: var(--baseline); }
svg .tasks * { stroke: var(--good); } svg .tasks circle { fill: var(--good); }
svg .fused * { stroke: var(--bad); } svg .fused circle { fill: var(--bad); }
td, th { vertical-align: top; } .scroll { overflow-x: auto; }
"""
Row = dict[str, Any]


def with_picked(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """The outcomes, and for every share and seed the arm that validation picks, under the name `PICKED`."""
    nights = sorted({(one["share"], one["seed"]) for one in outcomes})
    picked = []
    for share, seed in nights:
        found = pick([one for one in outcomes if (one["share"], one["seed"]) == (share, seed)])
        picked.append({**found, "arm": PICKED, "picked": found["arm"]})
    return [*outcomes, *picked]


def table(outcomes: Sequence[Outcome]) -> list[Row]:
    """A row for every share, arm and part: NDCG@10, and the gain over scratch in percent, each with its interval."""
    rows: list[Row] = []
    for share in sorted({one["share"] for one in outcomes}):
        here = [one for one in outcomes if one["share"] == share]
        for arm in dict.fromkeys(one["arm"] for one in here):
            mine = [one for one in here if one["arm"] == arm]
            theirs = [one for one in here if one["arm"] == SCRATCH]
            for part in dict.fromkeys(part for one in mine for part in one["parts"]):
                ours = pooled(mine, part)
                mean: Estimate = bootstrap({"ndcg10": ours}, RESAMPLES, CONFIDENCE, 7)["ndcg10"]
                row: Row = {"share": share, "arm": arm, "part": part, **mean.to_json()}
                if theirs and arm not in (SCRATCH, ORACLE):
                    row["gain_pct"], row["gain_pct_low"], row["gain_pct_high"] = gain(ours, pooled(theirs, part))
                rows.append(row)
    return rows


def pooled(outcomes: Sequence[Outcome], part: str) -> Array:
    """NDCG@10 of the users of one part, all seeds, in the order of the seeds."""
    columns = [one["parts"].get(part, []) for one in sorted(outcomes, key=lambda one: one["seed"])]
    return np.concatenate([np.zeros(0), *(np.asarray(column, dtype=np.float64) for column in columns)])


def gain(ours: Array, theirs: Array) -> tuple[float | None, float | None, float | None]:
    """Percent by which a mean is above another, and its paired bootstrap interval; None where the other may be 0."""
    draws = generator(7, "gain").integers(0, len(ours), (RESAMPLES, len(ours)))
    against = theirs[draws].mean(1)
    if not against.all():
        return None, None, None
    ratios = ours[draws].mean(1) / against
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(ratios, [tail, 1 - tail])
    return tuple(100 * (float(value) - 1) for value in (ours.mean() / theirs.mean(), low, high))  # type: ignore[return-value]


def sentence(outcomes: Sequence[Outcome], rows: Sequence[Row], share: float) -> str:
    """What a share of the users says about transfer, over all seeds."""
    names = [one["picked"] for one in outcomes if one["arm"] == PICKED and one["share"] == share]
    chosen = ", ".join(f"{name} {names.count(name)}×" for name in dict.fromkeys(names))
    row = next(row for row in rows if (row["share"], row["arm"], row["part"]) == (share, PICKED, ALL))
    if row.get("gain_pct") is None:
        return f"{share:.0%} of the users: validation picks {chosen}; no gain can be told"
    bounds = f"{row['gain_pct']:+.1f} % [{row['gain_pct_low']:+.1f}, {row['gain_pct_high']:+.1f}]"
    words = "transfer has no sure gain" if row["gain_pct_low"] <= 0 else "transfer gains"
    return f"{share:.0%} of the users: validation picks {chosen}; over scratch {bounds}: {words}"


def page(target: str, outcomes: Sequence[Outcome], rows: Sequence[Row], states: str) -> str:
    """The table and the plot as one HTML page without scripts or other files.

    Args:
        outcomes: of `with_picked`.
        rows: their `table`.
        states: HTML, of `pipeline.transfer.four_states.states_table`.
    """
    shares = sorted({row["share"] for row in rows})
    said = "".join(f"<li>{escape(sentence(outcomes, rows, share))}</li>" for share in shares)
    parts = list(dict.fromkeys(row["part"] for row in rows))
    head = "".join(f"<th>{escape(part)}</th>" for part in parts)
    body = []
    for share in shares:
        for arm in dict.fromkeys(row["arm"] for row in rows if row["share"] == share):
            by = {row["part"]: row for row in rows if (row["share"], row["arm"]) == (share, arm)}
            cells = "".join(_cell(by.get(part)) for part in parts)
            note = " (more steps than the others)" if arm == LONG else ""
            body.append(f"<tr><td>{share:.3g}</td><th>{escape(arm + note)}</th>{cells}</tr>")
    elements = [
        f"<h1>Does transfer help {escape(target)}?</h1>",
        f"<ul>{said}</ul>",
        _plot(rows, shares),
        "<p class='soft'>NDCG@10 on test users, every item ranked, seen ones masked; below it the gain over scratch at "
        f"equal steps. {CONFIDENCE:.0%} bootstraps over users, paired.</p>",
        f'<div class="scroll"><table><thead><tr><th>share</th><th>arm</th>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>",
        "<h2>Known and new</h2>",
        "<p class='soft'>Users and items without training interactions are new; a new user's earlier interactions are "
        "read, not trained on.</p>",
        f'<div class="scroll">{states}</div>',
    ]
    return html_page(f"{target}: transfer", elements, PALETTE)


def _cell(row: Row | None) -> str:
    if row is None:
        return "<td>–</td>"
    told = f"{row['value']:.4f}<small>[{row['low']:.4f}, {row['high']:.4f}]</small>"
    if row.get("gain_pct") is not None:
        told += f"<small>{row['gain_pct']:+.1f} % [{row['gain_pct_low']:+.1f}, {row['gain_pct_high']:+.1f}]</small>"
    return f"<td>{told}</td>"


def _plot(rows: Sequence[Row], shares: Sequence[float]) -> str:
    lines = []
    for arm, (kind, _) in DRAWN.items():
        by = {row["share"]: row for row in rows if (row["arm"], row["part"]) == (arm, ALL)}
        if len(by) == len(shares):
            points = [by[share] for share in shares]
            values, intervals = [p["value"] for p in points], [(p["low"], p["high"]) for p in points]
            lines.append(Line(arm, kind, values, intervals))
    top = max((high for line in lines for _, high in line.intervals or ()), default=0.0)
    key = ", ".join(f"{line.name} ({DRAWN[line.name][1]})" for line in lines)
    names = [f"{share:.3g}" for share in shares]
    return chart(
        f"NDCG@10 by share of the target's users: {key}", names, lines, [""] * len(names), max(top, 1e-6), "share"
    )
