"""The validation report: `index.html` (ours, one glance), Great Expectations' data docs behind it, `results.json`.

Both are readable without a network and byte-equal for equal data: no clock, no random id, nothing fetched.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

from pipeline.contracts.check import Verdict

STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:64rem;margin:2rem auto;padding:0 1rem;color:#1c2733;background:#fff}
table{border-collapse:collapse;width:100%;margin:.5rem 0 1.5rem}
td,th{padding:.3rem .6rem;border-bottom:1px solid #dde3ea;text-align:left;vertical-align:top}
td.n{text-align:right;font-variant-numeric:tabular-nums}tr.broken td{background:#fdecea}
tr.some td{background:#fff6e0}code{font-size:.85em;word-break:break-all}.quiet{color:#68788a}a{color:#0b5cad}
@media(prefers-color-scheme:dark){body{background:#14191f;color:#dde3ea}td,th{border-color:#33404d}
tr.broken td{background:#4a2320}tr.some td{background:#453a1c}a{color:#7ab8f5}.quiet{color:#93a3b3}}
"""
EXTERNAL = re.compile(
    r"<(script|picture|iframe|footer|nav)\b[^>]*>.*?</\1>|<(link|img|source)\b[^>]*>|url\(.https:[^)]*\)",
    re.S | re.I,
)
SITE_LINK = re.compile(r'href="(?:\.\./)+(index\.html|expectations/)[^"]*"')  # to a site that is not written
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
LOCAL_STYLE = (
    "*{box-sizing:border-box}.navbar,.btn,form{display:none}.text-success{color:#1a7f37}.text-danger{color:#b3261e}"
)

Verdicts = Mapping[tuple[str, str], Verdict]


def results(verdicts: Verdicts, as_of: datetime, max_quarantined_share: float) -> dict[str, Any]:
    """Everything that was found, as plain values."""
    tables = [
        {
            "domain": domain,
            "table": table,
            "rows": len(verdict.kept) + len(verdict.quarantined),
            "kept": len(verdict.kept),
            "quarantined": len(verdict.quarantined),
            "rules": [
                {
                    "rule": outcome.rule.rule,
                    "level": outcome.rule.level,
                    "why": outcome.rule.why,
                    "expectation": outcome.rule.expectation,
                    "broken_rows": outcome.rows,
                    "example": readable(outcome.example),
                }
                for outcome in verdict.outcomes
            ],
        }
        for (domain, table), verdict in verdicts.items()
    ]
    return {
        "as_of": f"{as_of:%Y-%m-%dT%H:%M:%SZ}",
        "max_quarantined_share": max_quarantined_share,
        "tables": tables,
    }


def readable(row: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """A row with ISO timestamps, without its nulls' bulk: long texts and vectors shortened."""
    return None if row is None else {name: _brief(value) for name, value in row.items()}


def _brief(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, float) and value - value != 0:
        return str(value)  # NaN and infinity are no JSON
    if isinstance(value, str) and len(value) > 80:
        return value[:77] + "…"
    if isinstance(value, list):
        return [_brief(one) for one in value[:8]] + (["…"] if len(value) > 8 else [])
    return value


def write_report(verdicts: Verdicts, folder: Path, as_of: datetime, max_quarantined_share: float) -> None:
    """Write `results.json`, `index.html` and `great_expectations/<domain>/<table>.html`."""
    found = results(verdicts, as_of, max_quarantined_share)
    (folder / "results.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", "utf-8")
    (folder / "index.html").write_text(_index(found), "utf-8")
    for (domain, table), verdict in verdicts.items():
        page = folder / "great_expectations" / domain / f"{table}.html"
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text("\n".join(data_docs_page(document, as_of) for document in verdict.documents), "utf-8")


def data_docs_page(document: Any, as_of: datetime) -> str:
    """The data docs page of one validation result, without what it would fetch and without its random ids."""
    from great_expectations.core.run_identifier import RunIdentifier
    from great_expectations.render.renderer import ValidationResultsPageRenderer

    for one in document.results:  # a million rows are no reading matter; the partial lists stay
        for bulk in ("unexpected_list", "unexpected_index_list", "partial_unexpected_index_list"):
            one.result.pop(bulk, None)
    document.meta["run_id"] = RunIdentifier(run_name=f"{as_of:%Y-%m-%dT%H:%M:%SZ}", run_time=as_of)
    for clocked in ("validation_time", "batch_markers", "validation_id", "checkpoint_id"):
        document.meta.pop(clocked, None)
    html = _page_view().render(ValidationResultsPageRenderer().render(document))
    html = SITE_LINK.sub('href="../../index.html"', EXTERNAL.sub("", html)).replace(
        "</head>", f"<style>{STYLE}{LOCAL_STYLE}</style></head>"
    )
    numbers: dict[str, str] = {}
    return UUID.sub(lambda match: numbers.setdefault(match.group(), f"id-{len(numbers)}"), html)


@cache
def _page_view() -> Any:
    """One for all pages: each view compiles its templates anew."""
    from great_expectations.render.view import DefaultJinjaPageView

    return DefaultJinjaPageView()


def _index(found: dict[str, Any]) -> str:
    head = "<tr><th>table<th>rows<th>kept<th>quarantined<th>share<th></tr>"
    rows, details = [], []
    for table in found["tables"]:
        name = f"{table['domain']}/{table['table']}"
        share = table["quarantined"] / max(1, table["rows"])
        stops = any(rule["broken_rows"] and rule["level"] != "row" for rule in table["rules"])
        stops = stops or share > found["max_quarantined_share"]
        state = "broken" if stops else "some" if table["quarantined"] else ""
        rows.append(
            f'<tr class="{state}"><td><a href="#{name}">{name}</a>'
            + "".join(f"<td class=n>{table[count]:,}" for count in ("rows", "kept", "quarantined"))
            + f"<td class=n>{share:.2%}"
            f'<td><a href="great_expectations/{name}.html">data docs</a></tr>'
        )
        details.append(f'<h2 id="{name}">{name}</h2>{_rules(table["rules"])}')
    return (
        '<!doctype html>\n<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>Validation {found['as_of']}</title><style>{STYLE}</style>\n"
        f"<h1>Validation</h1><p>Rows before {found['as_of']}. A row that breaks a row rule goes to quarantine; more "
        f"than {found['max_quarantined_share']:.1%} of a table there, or a broken table rule, stops the run.</p>\n"
        f"<table>{head}\n" + "\n".join(rows) + "\n</table>\n" + "\n".join(details) + "\n</html>\n"
    )


def _rules(rules: list[dict[str, Any]]) -> str:
    lines = []
    for rule in rules:
        state = "" if not rule["broken_rows"] else "some" if rule["level"] == "row" else "broken"
        example = (
            f"<br><code>{escape(json.dumps(rule['example'], ensure_ascii=False))}</code>" if rule["example"] else ""
        )
        lines.append(
            f'<tr class="{state}"><td><b>{rule["rule"]}</b>'
            f"<br><span class=quiet>{rule['level']} · {rule['expectation']}</span>"
            f"<td>{escape(rule['why'])}{example}<td class=n>{rule['broken_rows']:,}</tr>"
        )
    return "<table><tr><th>rule<th>why<th>broken</tr>\n" + "\n".join(lines) + "</table>"
