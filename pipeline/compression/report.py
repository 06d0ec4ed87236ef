"""The student, its teacher and the control arms as one HTML page: no scripts, no other files, light and dark."""

from __future__ import annotations

from html import escape
from typing import Any

from pipeline.evaluation.page import html_page

Row = dict[str, Any]
MEANING = {
    "teacher": "what is made smaller",
    "taught": "the student, with the task and the teacher's opinion",
    "untaught": "the same student, start and steps, with the task alone",
    "teacher-sized": "a model as large as the teacher from random weights, with the task alone, stopped early",
}


def render_report(about: Row) -> str:
    """The page; `about` is distill.json."""
    target, found = escape(about["target"]), about["retained"]
    body = [f"<h1>What does the student keep of {target}'s teacher?</h1>", f"<p>{escape(about['why'])}.</p>"]
    if found is not None:
        body += [
            "<h2>Teacher, student and control arms</h2>",
            f'<p class="soft">{found["n"]:,} test users, full ranking, seen items masked; intervals are '
            f"{found['confidence']:.0%} bootstraps over users. Validation users chose. A teacher that is not ahead of "
            "a model of its own size is a weak one: to keep all of it is no merit.</p>",
            _arms(found),
        ]
    if about["tables"]:
        body += ["<h2>What an item table would take</h2>", _tables(about["tables"], about["table"])]
    return html_page(f"{about['target']}: distillation", body)


def _arms(found: Row) -> str:
    parts = list(found["teacher"]["parts"])
    head = "".join(f"<th>{part}<br>n = {found['teacher']['parts'][part]['n']:,}</th>" for part in parts)
    rows = [
        "<tr><th>arm</th><th>parameters</th><th>steps</th><th>validation</th><th>NDCG@10</th>"
        f"<th>of the teacher</th>{head}</tr>"
    ]
    for row in (found["teacher"], *found["arms"]):
        cells = "".join(f"<td>{row['parts'][part]['ndcg10']:.4f}</td>" for part in parts)
        rows.append(
            f'<tr><td title="{MEANING[row["arm"]]}">{row["arm"]}</td><td>{row["parameters"]:,}</td>'
            f"<td>{row.get('steps', '–')}</td><td>{_number(row.get('valid_ndcg10'))}</td>"
            f"<td>{_interval(row['ndcg10'], '.4f')}</td><td>{_interval(row.get('retention'), '.1%')}</td>{cells}</tr>"
        )
    legend = "; ".join(f"{name}: {words}" for name, words in MEANING.items())
    return f'<div class="wide"><table>{"".join(rows)}</table></div><p class="soft">{legend}.</p>'


def _tables(tables: list[Row], chosen: str) -> str:
    rows = ["<tr><th>table</th><th>bytes</th></tr>"]
    for row in tables:
        mark = " (this one)" if row["table"] == chosen else ""
        rows.append(f"<tr><td>{escape(row['table'])}{mark}</td><td>{row['bytes']:,}</td></tr>")
    return (
        '<p class="soft">ID vectors alone, distill.table; what each costs in NDCG@10 is told by '
        f'<code>warmstart compress sweep</code>.</p><div class="wide"><table>{"".join(rows)}</table></div>'
    )


def _interval(figure: Row | None, form: str) -> str:
    if figure is None:
        return "–"
    return f"{figure['value']:{form}}<small>{figure['low']:{form}} – {figure['high']:{form}}</small>"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
