"""The experiment as one HTML page, with plots: no scripts, no other files, light and dark."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from pipeline.augmentation.arms import GAN, NONE
from pipeline.evaluation.page import html_page

Row = dict[str, Any]
LIKENESS = {
    "two_sample": ("classifier two-sample test", "accuracy on sequences it has not seen; 0.5: made cannot be told"),
    "density": ("density", "how many real neighbourhoods a made sequence lies in; about 1 is real"),
    "coverage": ("coverage", "share of real neighbourhoods with a made sequence in them"),
    "popularity_divergence": ("popularity divergence", "Jensen–Shannon, bits; 0 is equal"),
    "transition_agreement": ("transition agreement", "between groups of items; 1 is equal"),
    "nearest": ("distance to the nearest real one", "as a share of that between real ones; near 0 is copied"),
}
CHART = """
svg { max-width: 46rem; width: 100%; height: auto; display: block; }
svg text { font-size: 12px; fill: var(--soft); } svg .edge { stroke: var(--line); }
svg .real { stroke: var(--baseline); } svg .made { stroke: var(--ours); } svg polyline { fill: none; stroke-width: 2; }
"""


def render_report(about: Row) -> str:
    """The page; `about` is augment.json of a stage that was switched on."""
    target = escape(about["target"])
    body = [f"<h1>Do made sequences help {target}?</h1>", _headline(about)]
    if about.get("trial"):
        body += _trial(about["trial"])
    if about.get("quality"):
        body += _quality(about["quality"])
    if about.get("generator"):
        body += _looks(about["generator"])
    body.append(
        f'<p class="soft">It may take {about["cpu_seconds_limit"]:g} CPU-seconds (augment.budget_cpu_seconds); what it '
        "took stands in the manifest of the stage.</p>"
    )
    return html_page(f"{about['target']}: augmentation", body, CHART)


def _headline(about: Row) -> str:
    said = "; ".join(escape(reason) for reason in about["reasons"])
    if about["feeds"]:
        return f'<p><strong class="good">They feed the fine-tuning</strong>: {said}.</p>'
    avoided = ""
    trial = about.get("trial")
    if trial:
        effects = [e for e in trial["effects"] if (e["arm"], e["against"]) == (GAN, NONE)]
        worst = min(effects, key=lambda e: e["relative"], default=None)
        if worst and worst["relative"] < 0:
            surely = "would" if worst["high"] < 0 else "might"
            avoided = (
                f" Fed in, they {surely} have cost {escape(worst['part'])} {-worst['relative']:.1%} of NDCG@10 "
                f"({_signed(worst)}): the loss that was avoided."
            )
    return f"<p><strong>They are not fed in</strong>: {said}.{avoided}</p>"


def _trial(trial: Row) -> list[str]:
    made = [e for e in trial["effects"] if e["arm"] == GAN]
    others = [e for e in trial["effects"] if e["arm"] != GAN]
    steps = sorted({count for by in trial["steps"].values() for count in by.values()})
    shares = ", ".join(f"{escape(arm)} {share:g}" for arm, share in trial["shares"].items() if arm != NONE)
    return [
        "<h2>The trial</h2>",
        f'<p class="soft">The same fine-tuning in every arm, {" or ".join(map(str, steps))} steps each; NDCG@10, seen '
        "items masked, over the same held-out users. Sequences of its own for one real one, as validation chose: "
        f"{shares}. The confidence of the intervals is divided among the thin parts.</p>",
        _plot([e for e in made if e["against"] == NONE]),
        _effects(made),
        '<p class="soft" style="margin-top:1.25rem">What the controls do without a generator:</p>',
        _effects(others),
    ]


def _plot(effects: Sequence[Row]) -> str:
    reach = max([1e-6, *(abs(end) for e in effects for end in (e["low"], e["high"]))])
    rows = []
    for e in effects:
        low, high, value = (50 + 50 * e[key] / reach for key in ("low", "high", "difference"))
        rows.append(
            f'<div class="row model"><span class="name">{escape(e["part"])}</span>'
            f'<span class="track"><i class="bar" style="left:{low:.2f}%;width:{high - low:.2f}%"></i>'
            f'<i class="dot" style="left:{value:.2f}%"></i></span>'
            f'<span class="value">{e["relative"]:+.1%} <span class="soft">n = {e["n"]:,}</span></span></div>'
        )
    ticks = "".join(f'<span class="tick" style="left:{25 * i}%">{reach * (i - 2) / 2:+.2g}</span>' for i in range(5))
    axis = f'<span class="name"></span><span class="track">{ticks}</span><span class="value"></span>'
    return f'<div class="plot">{"".join(rows)}<div class="row axis">{axis}</div></div>'


def _effects(effects: Sequence[Row]) -> str:
    rows = ["<tr><th>part</th><th>arm</th><th>against</th><th>NDCG@10</th><th>difference</th><th>n</th></tr>"]
    for e in effects:
        tone = "good" if e["low"] > 0 else "bad" if e["high"] < 0 else ""
        rows.append(
            f"<tr><td>{escape(e['part'])}</td><td>{escape(e['arm'])}</td><td>{escape(e['against'])}</td>"
            f'<td>{e["ours"]:.4f}</td><td class="{tone}">{_signed(e)}</td><td>{e["n"]:,}</td></tr>'
        )
    return f'<div class="wide"><table>{"".join(rows)}</table></div>'


def _quality(quality: Row) -> list[str]:
    rows = ["<tr><th>figure</th><th>made</th><th>real halves</th><th>meaning</th></tr>"]
    for name, (title, meaning) in LIKENESS.items():
        made, halves = quality["likeness"][name], quality["reference"][name]
        rows.append(f"<tr><td>{title}</td><td>{made:.3f}</td><td>{halves:.3f}</td><td>{meaning}</td></tr>")
    rows.append(
        f"<tr><td>copied from training</td><td>{quality['copied']:.1%}</td><td>{quality['copied_reference']:.1%}</td>"
        "<td>sequences of three items or more that stand whole in a real one</td></tr>"
    )
    popularity, distances = quality["popularity"], quality["distances"]
    return [
        "<h2>How like real ones they are</h2>",
        f'<p class="soft">{quality["n"]:,} made sequences, each from a user\'s profile alone, as long as his own.</p>',
        f'<div class="wide"><table>{"".join(rows)}</table></div>',
        _tstr(quality),
        "<h2>Popularity</h2>",
        '<p class="soft">Share of interactions with the most popular items: real grey, made blue.</p>',
        _curves(popularity["items"], popularity, "share of the catalogue", "of interactions"),
        "<h2>Distance to the nearest other real sequence</h2>",
        '<p class="soft">Real grey, made blue; a heap at zero would be copies.</p>',
        _curves(distances["from"], distances, "distance", "share of sequences"),
    ]


def _tstr(quality: Row) -> str:
    if "tstr" not in quality:
        return "<p>It ended before it was known what a recommender learns from made sequences.</p>"
    tstr = quality["tstr"]
    if tstr is None:
        return "<p>There are no held-out users: what can be learned from made sequences is not known.</p>"
    return (
        f"<p>A recommender that learns from made sequences alone, as many as there are real ones, reaches "
        f"<strong>{tstr['share']:.0%}</strong> of what it reaches with the real ones: NDCG@10 {tstr['made']:.4f} "
        f"against {tstr['real']:.4f} on held-out users.</p>"
    )


def _looks(generator: Row) -> list[str]:
    looks = [look for look in generator["looks"] if None not in look.values()]
    ended = escape(generator["stopped"]) if generator["stopped"] else "trained to the end"
    found = [
        "<h2>Training</h2>",
        f'<p class="soft">{ended}; kept: step {generator["kept"]}. Distance to real sequences grey, gap of the critic '
        "blue, at every look.</p>",
    ]
    if len(looks) > 1:
        curves = {"real": [look["distance"] for look in looks], "made": [look["gap"] for look in looks]}
        found.append(_curves([look["step"] for look in looks], curves, "step", "distance, gap"))
    return found


def _curves(across: Sequence[float], up: Row, x_name: str, y_name: str) -> str:
    """Two curves, "real" and "made", on common axes."""
    width, height, left, bottom = 640.0, 220.0, 52.0, 34.0
    values = [*up["real"], *up["made"]]
    low, high = min(0.0, *values), max(1e-9, *values)
    first, last = min(across), max(across)

    def point(x: float, y: float) -> str:
        along = left + (width - left - 8) * (x - first) / ((last - first) or 1.0)
        return f"{along:.1f},{height - bottom - (height - bottom - 10) * (y - low) / (high - low):.1f}"

    lines = "".join(
        f'<polyline class="{kind}" points="{" ".join(map(point, across, up[kind]))}"/>' for kind in ("real", "made")
    )
    base = height - bottom
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(y_name)} by {escape(x_name)}">'
        f'<line class="edge" x1="{left}" y1="{base}" x2="{width}" y2="{base}"/>'
        f'<line class="edge" x1="{left}" y1="10" x2="{left}" y2="{base}"/>'
        f'<text x="{left}" y="{height - 6}">{escape(x_name)}: {first:.3g} to {last:.3g}</text>'
        f'<text x="2" y="20">{high:.2g}</text><text x="2" y="{base}">{low:.2g}</text>'
        f'<text x="{left + 8}" y="20">{escape(y_name)}</text>{lines}</svg>'
    )


def _signed(effect: Row) -> str:
    return f"{effect['difference']:+.4f} [{effect['low']:+.4f}, {effect['high']:+.4f}]"
