"""One page for one run: `run.html` in its record, self-contained, readable without scripts, network or server.

    write_page(home / "records" / "manual__2026-01-02T03-04-05-00-00")

Drawn from the record alone, for a run that failed too. `render_page` draws a workspace of an open run in the same way.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from pipeline.report import plots, words
from pipeline.report.drawing import across, anchor, down
from pipeline.report.record import CACHED, EXECUTED, FAILED, NOT_RUN, RUNNING, RunView, read_run, seconds_between

HERE = Path(__file__).parent
PAGE = "run.html"
# Nothing is fetched and nothing is executed, whatever stands in a dataset's names or in an error's sentence.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def write_page(record: Path, links: Mapping[str, str] | None = None) -> Path:
    """Write `<record>/run.html` and return its path; readers see the old page or the new one.

    Args:
        record: folder of a closed run.
        links: name -> address, beside those that the manifests know (the run in MLflow, for one).
    """
    path = record / PAGE
    fresh = path.with_name(f".{PAGE}.{os.getpid()}")
    fresh.write_text(render_page(record, links), "utf-8")
    fresh.replace(path)
    return path


def render_page(folder: Path, links: Mapping[str, str] | None = None) -> str:
    """The page of a run, closed or open."""
    view = read_run(folder)
    endings = {target: _ending(view, target) for target in view.run.get("targets") or []}
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "duration": words.duration, "size": words.size, "moment": words.moment, "measure": words.measure,
        "number": words.number, "anchor": anchor, "json": _json,
    }  # fmt: skip
    return environment.get_template("run.html.j2").render(
        policy=POLICY,
        style=Markup((HERE / "run.css").read_text("utf-8")),
        view=view,
        run=view.run,
        stages=sorted(
            view.stages.values(), key=lambda stage: list(endings).index(stage.target) if stage.target else -1
        ),
        counts=_counts(view),
        seconds=seconds_between(view.run.get("opened"), view.run.get("closed")),
        links={**_links_of(view), **(links or {})},
        graph=Markup(across(view, endings) + down(view, endings)),
        targets=[_target(view, target, ending) for target, ending in endings.items()],
        tables=_tables(view.validation),
        again=_again(view.run),
        from_models=_from_models(view),
    )


def _counts(view: RunView) -> list[str]:
    states = [stage.state for stage in view.stages.values()]
    said = {EXECUTED: "executed", CACHED: "from the cache", FAILED: "failed", RUNNING: "running", NOT_RUN: "not run"}
    return [f"{states.count(state)} {text}" for state, text in said.items() if state in states]


def _ending(view: RunView, target: str) -> str:
    receipt = view.receipts.get(target)
    if not receipt or not receipt.get("verdict"):
        return ""
    version = f", version {receipt['version']}" if receipt.get("version") else ""
    return f"{receipt['verdict']}{version}"


def _target(view: RunView, name: str, ending: str) -> dict[str, Any]:
    metrics, receipt = view.evaluations.get(name), view.receipts.get(name) or {}
    judged = metrics is not None and metrics.get("n", 0) > 0
    gate = receipt.get("gate") or {}
    return {
        "name": name,
        "ending": ending,
        "receipt": receipt,
        "metrics": metrics,
        "models": plots.by_model(metrics) if judged and metrics else None,
        "slices": plots.by_slice(metrics) if judged and metrics else None,
        "gate": plots.by_comparison(gate.get("comparisons") or []),
        "budgets": gate.get("budgets") or [],
        "rules": gate.get("rules") or {},
        "verdict_sha256": gate.get("sha256"),
        "reports": {
            words: path
            for words, path in (
                ("Every figure", f"reports/evaluation/{name}/report.html"),
                ("How was the teacher made?", f"reports/transfer/{name}/report.html"),
                ("What does the student keep?", f"reports/distillation/{name}/report.html"),
                ("What would a smaller model cost?", f"reports/compression/{name}/report.html"),
                ("Do made sequences help?", f"reports/augmentation/{name}/report.html"),
            )
            if path in view.reports
        },
    }


def _tables(validation: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Tables of the validation, with the rules that rows broke; which of them stopped the run."""
    if validation is None:
        return []
    found = []
    for table in validation.get("tables", []):
        share = table["quarantined"] / max(1, table["rows"])
        broken = [rule for rule in table["rules"] if rule["broken_rows"]]
        stops = share > validation["max_quarantined_share"] or any(rule["level"] != "row" for rule in broken)
        found.append({**table, "share": share, "broken": broken, "stops": stops})
    return found


def _links_of(view: RunView) -> dict[str, str]:
    tasks = [stage.manifest.get("airflow") or {} for stage in view.stages.values()]
    urls = [task["url"].partition("/tasks/")[0] for task in tasks if task.get("url")]
    return {"Airflow": urls[0]} if urls else {}


def _again(run: Mapping[str, Any]) -> str:
    """The command that does the same run again, from the same commit."""
    if "commit" not in run:
        return ""
    options = [("DATA", run["data"]), ("TARGETS", " ".join(run["targets"])), ("AS_OF", run["as_of"])]
    options += [("SET", " ".join(run["overrides"]))] if run.get("overrides") else []
    spelled = " ".join(f"{name}={shlex.quote(str(value))}" for name, value in options)
    return f"git checkout {run['commit'][:12]}\nmake run {spelled}"


def _from_models(view: RunView) -> str:
    versions = [f"{r['model']}/{r['version']}" for r in view.receipts.values() if r.get("version") and r.get("model")]
    return "\n".join(f".venv/bin/warmstart lineage reproduce {shlex.quote(version)}" for version in versions)


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False, sort_keys=True, default=str)
