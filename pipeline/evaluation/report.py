"""The evaluation as one HTML page: no scripts, no other files, light and dark, wide and narrow."""

from __future__ import annotations

import math
from html import escape
from typing import Any

from pipeline.evaluation.page import html_page
from pipeline.evaluation.slices import MEANING

COLUMNS = ("ndcg10", "hr10", "ndcg20", "hr20", "mrr", "auc")
TITLES = {
    "ndcg10": "NDCG@10",
    "hr10": "HR@10",
    "ndcg20": "NDCG@20",
    "hr20": "HR@20",
    "mrr": "MRR",
    "auc": "AUC",
}
LISTS = {"coverage": "coverage", "novelty": "novelty, bits", "popularity_bias": "popularity bias"}
Row = dict[str, Any]


def render_report(metrics: Row) -> str:
    """The page for one target; `metrics` is metrics.json."""
    target, models = escape(metrics["target"]), metrics["models"]
    level = f"{metrics['confidence']:.0%}"
    body = [
        f"<h1>How well is {target} ranked for?</h1>",
        f'<p class="soft">{metrics["n"]:,} test users, {metrics["n_items"]:,} items, '
        f"{escape(metrics['protocol'].replace('_', ' '))} split, full ranking; a tie counts against the model. "
        f"Intervals are {level} bootstraps over users. HR@k equals recall@k: one item is held out per user.</p>",
    ]
    if metrics["n"] == 0:
        body.append("<p>There are no test users, so nothing can be said.</p>")
    else:
        body += [
            _headline(metrics),
            "<h2>NDCG@10, seen items masked</h2>",
            _plot(models),
            "<h2>Every figure</h2>",
            '<p class="soft">Seen items masked: what a server shows.</p>',
            _table(models, "masked"),
            '<p class="soft" style="margin-top:1.25rem">Nothing masked: seen items may be recommended again.</p>',
            _table([model for model in models if "unmasked" in model], "unmasked"),
            "<h2>Who is served how well</h2>",
            '<p class="soft">NDCG@10, seen items masked, by part of the test users.</p>',
            _slices(models),
            "<h2>What is recommended</h2>",
            '<p class="soft">The first ten items of every user, seen ones masked. Coverage: the share of the catalogue '
            "that stands in any list. Novelty: how surprising an item is, by its training interactions. Popularity "
            "bias: how many times as popular as what was trained on.</p>",
            _lists([model for model in models if "lists" in model]),
            "<h2>The served model against each other, user by user</h2>",
            '<p class="soft">Mean difference of NDCG@10 over the same users.</p>',
            _differences(metrics["differences"]),
        ]
    return html_page(f"{metrics['target']}: evaluation", body)


def _headline(metrics: Row) -> str:
    against = {row["against"]: row for row in metrics["differences"]}
    names = [model["name"] for model in metrics["models"] if model["kind"] == "baseline"]
    values = {model["name"]: model["masked"]["ndcg10"]["value"] for model in metrics["models"]}
    best = max(names, key=lambda name: values[name])
    row = against[best]
    verdict, tone = "is ahead of", "good"
    if row["low"] <= 0 <= row["high"]:
        verdict, tone = "cannot be told from", ""
    elif row["high"] < 0:
        verdict, tone = "is behind", "bad"
    return (
        f'<p>The served model <strong class="{tone}">{verdict}</strong> the strongest baseline, {escape(best)}: '
        f"NDCG@10 {values['served']:.4f} against {values[best]:.4f}, difference {_signed(row)}.</p>"
    )


def _plot(models: list[Row]) -> str:
    top = _round_up(max(model["masked"]["ndcg10"]["high"] for model in models))
    rows = []
    for model in models:
        figure = model["masked"]["ndcg10"]
        low, high, value = (100 * figure[key] / top for key in ("low", "high", "value"))
        rows.append(
            f'<div class="row {_classes(model)}"><span class="name">{escape(model["name"])}</span>'
            f'<span class="track"><i class="bar" style="left:{low:.2f}%;width:{high - low:.2f}%"></i>'
            f'<i class="dot" style="left:{value:.2f}%"></i></span>'
            f'<span class="value">{figure["value"]:.4f} <span class="soft">[{figure["low"]:.4f}, {figure["high"]:.4f}]'
            "</span></span></div>"
        )
    ticks = "".join(f'<span class="tick" style="left:{25 * i}%">{top * i / 4:.3g}</span>' for i in range(5))
    axis = f'<span class="name"></span><span class="track">{ticks}</span><span class="value"></span>'
    return f'<div class="plot">{"".join(rows)}<div class="row axis">{axis}</div></div>'


def _table(models: list[Row], mode: str) -> str:
    head = "".join(f"<th>{TITLES[column]}</th>" for column in COLUMNS)
    rows = [f"<tr><th>model</th>{head}<th>parameters</th><th>bytes</th></tr>"]
    for model in models:
        cells = "".join(_cell(model[mode].get(column)) for column in COLUMNS)
        counts = "".join(f"<td>{_count(model[key])}</td>" for key in ("parameters", "bytes"))
        rows.append(f'<tr class="{_classes(model)}"><td>{escape(model["name"])}</td>{cells}{counts}</tr>')
    return _wide(rows)


def _slices(models: list[Row]) -> str:
    parts = [part for part in MEANING if models[0]["slices"][part]["n"]]
    head = "".join(
        f'<th title="{MEANING[part]}">{part}<br>n = {models[0]["slices"][part]["n"]:,}</th>' for part in parts
    )
    rows = [f"<tr><th>model</th>{head}</tr>"]
    for model in models:
        cells = "".join(_cell(model["slices"][part]["ndcg10"]) for part in parts)
        rows.append(f'<tr class="{_classes(model)}"><td>{escape(model["name"])}</td>{cells}</tr>')
    legend = "; ".join(f"{part}: {MEANING[part]}" for part in parts)
    return _wide(rows) + f'<p class="soft">{legend}.</p>'


def _lists(models: list[Row]) -> str:
    head = "".join(f"<th>{title}</th>" for title in LISTS.values())
    rows = [f"<tr><th>model</th>{head}</tr>"]
    for model in models:
        cells = "".join(f"<td>{model['lists'][name]:.3f}</td>" for name in LISTS)
        rows.append(f'<tr class="{_classes(model)}"><td>{escape(model["name"])}</td>{cells}</tr>')
    return _wide(rows)


def _differences(differences: list[Row]) -> str:
    rows = ["<tr><th>against</th><th>difference</th></tr>"]
    for row in differences:
        tone = "good" if row["low"] > 0 else "bad" if row["high"] < 0 else ""
        rows.append(f'<tr><td>{escape(row["against"])}</td><td class="{tone}">{_signed(row)}</td></tr>')
    return _wide(rows)


def _wide(rows: list[str]) -> str:
    return f'<div class="wide"><table>{"".join(rows)}</table></div>'


def _cell(figure: Row | None) -> str:
    if figure is None:
        return "<td>–</td>"
    return f"<td>{figure['value']:.4f}<small>{figure['low']:.4f} – {figure['high']:.4f}</small></td>"


def _classes(model: Row) -> str:
    return model["kind"] + (" served" if model["name"] == "served" else "")


def _signed(row: Row) -> str:
    return f"{row['value']:+.4f} [{row['low']:+.4f}, {row['high']:+.4f}]"


def _count(value: int | None) -> str:
    return f"{value:,}" if value else "–"


def _round_up(value: float) -> float:
    """The next number whose quarters are round, for the axis."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 1.2, 1.6, 2, 2.4, 2.8, 3.2, 4, 5, 6, 8, 10) if step * power >= value)
