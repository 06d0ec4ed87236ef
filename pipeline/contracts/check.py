"""Running a contract over a table with Great Expectations.

Three steps: the layout (are the columns there, and of the right type?), the row rules (broken rows are taken out), the
table rules (on what is left; one that is broken stops the run).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

import numpy as np
import polars as pl

from pipeline.contracts.observe import layout, observe
from pipeline.contracts.rules import Contract, Rule
from pipeline.data.schema import EARLIEST


@dataclass(frozen=True)
class Surroundings:
    """What a table is judged against.

    Attributes:
        known_items: ids of the domain's valid items; None: its items table is itself broken, so nothing can be said.
        events: legal event types; empty: those of the contract.
    """

    as_of: datetime
    roles: Sequence[str]
    known_items: pl.Series | None = None
    events: Sequence[str] = ()


@dataclass(frozen=True)
class Outcome:
    """What one rule found. `rows` broke it; `example` is one of them, or None."""

    rule: Rule
    rows: int
    example: dict[str, Any] | None = None


@dataclass(frozen=True)
class Verdict:
    """What a contract found in one table.

    Attributes:
        kept: the rows that broke no row rule, in their order.
        quarantined: the others, with the first rule each broke in the column `rule`.
        outcomes: every rule that was run. Of row rules, `rows` counts those quarantined under it.
        documents: what Great Expectations said, a result per step; for the data docs.
    """

    kept: pl.DataFrame
    quarantined: pl.DataFrame
    outcomes: list[Outcome]
    documents: list[Any]

    @property
    def stopped_by(self) -> list[Outcome]:
        """The broken table and layout rules."""
        return [outcome for outcome in self.outcomes if outcome.rows and outcome.rule.level != "row"]


def check(frame: pl.DataFrame, contract: Contract, around: Surroundings, name: str) -> Verdict:
    """Judge a table.

    Args:
        name: of the table in the data docs, e.g. "metro/interactions".
    """
    columns = layout(frame.to_arrow().schema, contract.table)
    form, document = _run(columns, contract.of_level("layout"), around, contract, f"{name} layout")
    outcomes = [_outcome(rule, found, columns) for rule, found in form]
    nothing = frame.clear().with_columns(rule=pl.lit(None, pl.String))
    if any(outcome.rows for outcome in outcomes):
        return Verdict(frame, nothing, outcomes, [document])
    rules = [r for r in contract.of_level("row", "table") if r.role is None or r.role in around.roles]
    observed = observe(frame, contract.table, around.known_items)
    results, rows_document = _run(observed, rules, around, contract, name)
    first = np.full(len(frame), -1)  # position of the first row rule that each row broke
    judges = [rule for rule in rules if rule.level == "row"]
    for rule, found in results:
        if rule.level == "row":
            rows = np.array(found["unexpected_index_list"], dtype=np.int64)
            rows = rows[first[rows] < 0]
            first[rows] = judges.index(rule)
            outcomes.append(_outcome(rule, {"unexpected_index_list": rows.tolist()}, frame))
    documents = [document, rows_document]
    names = pl.Series([rule.rule for rule in judges], dtype=pl.String)
    bad = pl.Series(first >= 0)
    if bad.any():
        # The table rules are about what is left, so ask them again.
        whole = [rule for rule in rules if rule.level == "table"]
        observed = observed.filter(~bad)
        results, table_document = _run(observed, whole, around, contract, f"{name} after quarantine")
        documents.append(table_document)
    kept = frame.filter(~bad)
    outcomes += [_outcome(rule, found, kept) for rule, found in results if rule.level == "table"]
    quarantined = frame.filter(bad).with_columns(rule=names.gather(first[first >= 0]))
    return Verdict(kept, quarantined, outcomes, documents)


def _outcome(rule: Rule, found: Mapping[str, Any], frame: pl.DataFrame) -> Outcome:
    rows = found.get("unexpected_index_list")
    if rows is None:  # an expectation about the table as a whole
        return Outcome(rule, 0 if found["success"] else max(1, len(frame)))
    return Outcome(rule, len(rows), frame.row(rows[0], named=True) if rows else None)


def _run(
    frame: pl.DataFrame, rules: list[Rule], around: Surroundings, contract: Contract, name: str
) -> tuple[list[tuple[Rule, dict[str, Any]]], Any]:
    """Each rule with what Great Expectations found, in the order of `rules`, and its whole result."""
    batch = _whole_table()
    import great_expectations as gx

    values = {"$as_of": around.as_of, "$earliest": EARLIEST, "$events": list(around.events or contract.events)}
    suite = gx.ExpectationSuite(name=name)
    suite.expectations = [_expectation(gx, rule, values) for rule in rules]
    result = batch.get_batch({"dataframe": _to_pandas(frame)}).validate(
        suite, result_format={"result_format": "COMPLETE", "return_unexpected_index_query": False}
    )
    found = {}
    for one in result.results:
        if one.exception_info.get("raised_exception"):
            raise RuntimeError(
                f"{name}: {one.expectation_config.type} failed: {one.exception_info['exception_message']}"
            )
        meta = one.expectation_config.meta
        found[meta["rule"]] = {"success": one.success, **one.result}
    return [(rule, found[rule.rule]) for rule in rules], result


@cache
def _whole_table() -> Any:
    """The one batch definition of this process; every table is handed to it in turn."""
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")  # read at import
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    logging.getLogger("great_expectations").setLevel(logging.WARNING)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    asset = context.data_sources.add_pandas("contracts").add_dataframe_asset("table")
    return asset.add_batch_definition_whole_dataframe("all rows")


def _expectation(gx: Any, rule: Rule, values: Mapping[str, Any]) -> Any:
    kwargs = {name: values.get(v, v) if isinstance(v, str) else v for name, v in rule.kwargs.items()}
    return getattr(gx.expectations, rule.expectation)(**kwargs, meta={"rule": rule.rule, "why": rule.why})


def _to_pandas(frame: pl.DataFrame) -> Any:
    """As pandas, missing as NaN, None or NaT (NaN and infinity of `value` have a column of their own)."""
    return frame.to_pandas()
