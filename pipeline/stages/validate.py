"""validate: hold every table to its contract; bad rows go to quarantine, a broken contract stops the run (65).

The report and the quarantine are complete before the stage raises: whoever has to act finds the rows there.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping
from typing import Any

import polars as pl
from pydantic import Field

from pipeline.contracts.rules import contract, contract_digest
from pipeline.data.partitions import read_rows, write_rows
from pipeline.data.schema import TABLES, TableName, schema_of, write_table
from pipeline.exit_codes import DataBrokeContract
from pipeline.runs.contract import AsOf, Folders, Job, StageParams, Summary

log = logging.getLogger(__name__)
ORDER: tuple[TableName, ...] = ("items", "users", "interactions")  # interactions are judged against the valid items


class Params(StageParams):
    """Parameters of validate."""

    as_of: AsOf
    max_quarantined_share: float = Field(
        default=0.05, ge=0, le=1, description="of a table's rows; above it the run stops"
    )


def run(inputs: Folders, outputs: Folders, params: Params, job: Job) -> Summary:
    """Write the valid rows, the quarantine and the report.

    Raises:
        DataBrokeContract: a table rule is broken, or too many rows are; the sentence names rule, rows and an example.
    """
    from pipeline.contracts.check import Surroundings, Verdict, check
    from pipeline.contracts.report import write_report

    snapshot = inputs["data/snapshot"]
    dataset = json.loads((snapshot / "dataset.json").read_text("utf-8"))
    verdicts: dict[tuple[str, str], Verdict] = {}
    for domain, described in dataset["domains"].items():
        known_items: pl.Series | None = None
        for table in ORDER:
            around = Surroundings(params.as_of, described["role"], known_items, dataset.get("events", ()))
            frame = read_rows(snapshot / domain, table)
            verdict = check(frame, contract(table), around, f"{domain}/{table}")
            if table == "items" and len(verdict.kept):
                known_items = verdict.kept.get_column("item_id", default=None)
            verdicts[domain, table] = verdict
            _write_verdict(verdict, domain, table, outputs)
            log.info(
                "%s/%s: %s rows, %s quarantined", domain, table, f"{len(frame):,}", f"{len(verdict.quarantined):,}"
            )
    shutil.copyfile(snapshot / "dataset.json", outputs["data/valid"] / "dataset.json")
    ordered: dict[tuple[str, str], Verdict] = {
        (domain, table): verdicts[domain, table] for domain in dataset["domains"] for table in TABLES
    }
    write_report(ordered, outputs["reports/validation"], params.as_of, params.max_quarantined_share)
    complaints = [line for key, verdict in verdicts.items() for line in complaints_of(key, verdict, params)]
    facts = {"validation": _told(ordered, success=not complaints)}
    if complaints:
        more = f" {len(complaints) - 1} more in" if len(complaints) > 1 else " See"
        raise DataBrokeContract(f"{complaints[0]}{more} reports/validation/index.html.", facts)
    rows = sum(len(v.kept) for (_, table), v in ordered.items() if table == "interactions")
    quarantined = sum(len(v.quarantined) for v in ordered.values())
    total = sum(len(v.kept) for v in ordered.values()) + quarantined
    return Summary(
        found=f"{rows:,} valid interactions, {quarantined:,} rows quarantined ({quarantined / max(1, total):.1%})",
        metrics={"valid_interactions": float(rows), "quarantined_rows": float(quarantined)},
        facts=facts,
    )


def _told(verdicts: Mapping[tuple[str, str], Any], success: bool) -> dict[str, Any]:
    """For the manifest: which contracts, with what result, and how many rows of each table under which rule."""
    counts = {
        f"{domain}/{table}": {o.rule.rule: o.rows for o in verdict.outcomes if o.rule.level == "row" and o.rows}
        for (domain, table), verdict in verdicts.items()
    }
    return {
        "suites": {table: contract_digest(table) for table in TABLES},
        "success": success,
        "quarantined": {name: by_rule for name, by_rule in counts.items() if by_rule},
    }


def _write_verdict(verdict: Any, domain: str, table: TableName, outputs: Folders) -> None:
    # with columns that are not the canonical ones, the table stays as it came
    as_it_came = any(outcome.rule.level == "layout" for outcome in verdict.stopped_by)
    schema = None if as_it_came else schema_of(table, verdict.kept.columns)
    write_rows(verdict.kept, outputs["data/valid"] / domain, table, schema)
    quarantine = outputs["data/quarantine"] / domain / f"{table}.parquet"
    write_table(verdict.quarantined, quarantine, None if schema is None else _with(schema, ["rule"]))


def _with(schema: Any, texts: list[str]) -> Any:
    import pyarrow as pa

    return pa.schema([*schema, *((name, pa.string()) for name in texts)])


def complaints_of(key: tuple[str, str], verdict: Any, params: Params) -> list[str]:
    """One sentence per reason to stop: rule, rows, an example."""
    from pipeline.contracts.report import readable

    name = "/".join(key)
    total = len(verdict.kept) + len(verdict.quarantined)
    lines = []
    for outcome in verdict.stopped_by:
        example = readable(outcome.example)
        shown = f", e.g. {json.dumps(example, ensure_ascii=False)}" if example else ""
        unit = "columns" if outcome.rule.level == "layout" else f"of {len(verdict.kept):,} rows"
        lines.append(f"{name} broke the rule {outcome.rule.rule} ({outcome.rule.why}) {outcome.rows:,} {unit}{shown}.")
    share = len(verdict.quarantined) / max(1, total)
    if share > params.max_quarantined_share:
        worst = max((o for o in verdict.outcomes if o.rule.level == "row"), key=lambda outcome: outcome.rows)
        shown = json.dumps(readable(worst.example), ensure_ascii=False)
        lines.append(
            f"{name}: {len(verdict.quarantined):,} of {total:,} rows ({share:.1%}) broke a row rule, more than "
            f"validate.max_quarantined_share = {params.max_quarantined_share:.1%}; most often {worst.rule.rule} "
            f"({worst.rows:,} rows, e.g. {shown})."
        )
    return lines
