"""The picture: online HR@10 and regret by day beside popularity; one page that fetches nothing and runs no script."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from html import escape
from pathlib import Path
from typing import Any

from pipeline.simulation.chart import Line, chart

STYLE = Path(__file__).with_name("page.css")
POLICY = "default-src 'none'; style-src 'unsafe-inline'"
LEGEND = (
    '<p class="legend"><span><i class="service"></i>the service</span><span><i class="popularity"></i>popularity, the'
    ' same requests</span><span><i class="best"></i>the best that anything could do</span>'
    '<span><i class="promoted"></i>promoted the night before</span></p>'
)
Row = Mapping[str, Any]


def render(found: Row) -> str:
    """The page of `figures.figures`, with what was `asked`."""
    asked = found["asked"]
    days = max((len(target["days"]) for target in found["targets"].values()), default=0)
    body = [
        f"<h1>{days} simulated {'day' if days == 1 else 'days'}</h1>",
        f'<p class="soft">world:{escape(asked["size"])}, seed {asked["seed"]}, at most {asked["users_per_day"]:,} users'
        " a day in each market, one list of ten each. What a user wants is drawn from their true taste before anything"
        " is shown: HR@10 is the share of lists that have it. Regret is the share of the best possible chance of that"
        " which a list leaves."
        f" Intervals are {found['confidence']:.0%} bootstraps over the day's users.</p>",
    ]
    if not days:
        body.append("<p>No day is over yet.</p>")
    for name, target in found["targets"].items():
        body += _target(name, target, found["parts"])
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{days} simulated days</title>\n<style>\n{STYLE.read_text('utf-8')}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def _target(name: str, target: Row, parts: Mapping[str, str]) -> list[str]:
    days, whole = target["days"], target["whole"]
    names = [f"{date.fromisoformat(row['day']):%-d %b}" for row in days]
    # the night before a day made the version that the day shows
    marks = [""] + [_mark(row["night"]) for row in days[:-1]]
    best = Line("the best", "best", [row["best_hr10"]["value"] for row in days])
    ends = [row[figure][arm]["high"] for row in days for figure in ("hr10",) for arm in row[figure]]
    top = _rounded(max([*ends, *best.values]))
    hr10 = chart(
        "HR@10, online", names, [best, _line(days, "hr10", "popularity"), _line(days, "hr10", "service")], marks, top
    )
    regret = chart("Regret", names, [_line(days, "regret", "popularity"), _line(days, "regret", "service")], marks, 1.0)
    return [
        f"<h2>{escape(name)}</h2>", _headline(whole), f'<div class="charts">{hr10}{regret}</div>', LEGEND,
        _parts(target["parts"], parts), _days(days),
    ]  # fmt: skip


def _line(days: list[Row], figure: str, arm: str) -> Line:
    told = [row[figure][arm] for row in days]
    return Line(arm, arm, [one["value"] for one in told], [(one["low"], one["high"]) for one in told])


def _mark(night: Row | None) -> str:
    return f"v{night['version']}" if night and night["verdict"] == "promote" else ""


def _headline(whole: Row) -> str:
    gain = whole["hr10_gain"]
    words, tone = "about as often as popularity", ""
    if gain["low"] > 0:
        words, tone = "more often than popularity", "good"
    elif gain["high"] < 0:
        words, tone = "less often than popularity", "bad"
    return (
        f'<p>The service showed what the user wanted <strong class="{tone}">{words}</strong>: HR@10 '
        f"{whole['hr10']['service']['value']:.3f} against {whole['hr10']['popularity']['value']:.3f} in "
        f"{whole['n']:,} lists, difference {gain['value']:+.3f} [{gain['low']:+.3f}, {gain['high']:+.3f}]; "
        f"{whole['best_hr10']['value']:.3f} was possible.</p>"
    )


def _parts(parts: Row, meaning: Mapping[str, str]) -> str:
    heads = ("all days", "lists", "HR@10", "popularity", "possible", "regret", "popularity")
    rows = [f"<tr>{''.join(f'<th>{head}</th>' for head in heads)}</tr>"]
    for part, words in meaning.items():
        told = parts[part]
        cells = "".join(
            _cell(figure)
            for figure in (
                told["hr10"]["service"], told["hr10"]["popularity"], told["best_hr10"],
                told["regret"]["service"], told["regret"]["popularity"],
            )
        )  # fmt: skip
        rows.append(f"<tr><td>{escape(part)}<small>{escape(words)}</small></td><td>{told['n']:,}</td>{cells}</tr>")
    return _wide(rows)


def _days(days: list[Row]) -> str:
    rows = ["<tr><th>day</th><th>lists</th><th>answered by</th><th>from</th><th>the night after it</th></tr>"]
    for row in days:
        night = row["night"]
        sources = ", ".join(f"{name} {share:.0%}" for name, share in row["sources"].items())
        rows.append(
            f"<tr><td>{row['day']}</td><td>{row['n']:,}</td><td>{escape(', '.join(row['models']))}</td>"
            f'<td>{sources}</td><td class="why">{escape(_ended(night))}</td></tr>'
        )
    return _wide(rows)


def _ended(night: Row | None) -> str:
    return f"{night['verdict']} version {night['version']}: {'; '.join(night['reasons'])}" if night else ""


def _cell(figure: Row | None) -> str:
    if figure is None:
        return "<td>–</td>"
    return f"<td>{figure['value']:.3f}<small>{figure['low']:.3f} – {figure['high']:.3f}</small></td>"


def _wide(rows: list[str]) -> str:
    return f'<div class="wide"><table>{"".join(rows)}</table></div>'


def _rounded(value: float) -> float:
    """The next end of an axis whose quarters are round."""
    return next((end for end in (0.1, 0.2, 0.4, 0.6, 0.8) if end >= value), 1.0)
