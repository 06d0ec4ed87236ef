"""The contracts' own examples, run through the very same code as the nightly rows."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from pipeline.contracts.check import Surroundings, check
from pipeline.contracts.rules import Case, Contract, Rule, contract
from pipeline.data.schema import SCHEMAS, TABLES, schema_of

AS_OF = datetime(2026, 1, 1, tzinfo=UTC)
CASES = [
    pytest.param(table, rule, case, id=f"{table}-{rule.rule}-{number}")
    for table in TABLES
    for rule in contract(table).rules
    for number, case in enumerate(rule.cases)
]


@pytest.mark.parametrize(("table", "rule", "case"), CASES)
def test_given_and_expect(table: str, rule: Rule, case: Case) -> None:
    rules = contract(table)  # type: ignore[arg-type]
    frame = _changed_columns(rules, case.columns) if case.columns is not None else _rows(rules, case.given or [])
    known = pl.Series(["i1", "i2", "i3", *map(_written_out, case.items)])
    verdict = check(frame, rules, Surroundings(AS_OF, case.roles, known), "example")
    broken = {outcome.rule.rule for outcome in verdict.outcomes if outcome.rows}
    if case.expect == "passes":
        assert broken == set()
    elif case.expect == "stops":
        assert [outcome.rule.rule for outcome in verdict.stopped_by] == [rule.rule, *case.also]
        assert broken == {rule.rule, *case.also}
    else:
        kept = [row for row, fate in zip(frame.rows(), case.expect, strict=True) if fate == "kept"]
        assert [str(row) for row in verdict.kept.rows()] == [str(row) for row in kept]  # as text: NaN equals NaN
        assert set(verdict.quarantined["rule"]) == {rule.rule}
        assert len(verdict.quarantined) == len(frame) - len(kept)
        assert verdict.stopped_by == []


@pytest.mark.parametrize("table", TABLES)
def test_every_rule_shows_both_sides(table: str) -> None:
    """A rule that quarantines or stops everything, or nothing, is no rule."""
    for rule in contract(table).rules:  # type: ignore[arg-type]
        fates = {
            fate for case in rule.cases for fate in (case.expect if isinstance(case.expect, list) else [case.expect])
        }
        assert fates == ({"quarantined", "kept"} if rule.level == "row" else {"stops", "passes"}), rule.rule
        assert len(rule.why) > 20


@pytest.mark.parametrize("table", TABLES)
def test_rule_names_are_unique(table: str) -> None:
    names = [rule.rule for rule in contract(table).rules]  # type: ignore[arg-type]
    assert len(names) == len(set(names))


def test_first_broken_rule_is_the_one_named() -> None:
    rules = contract("interactions")
    frame = _rows(rules, [{"user_id": None, "item_id": None, "event": "teleport"}])
    verdict = check(frame, rules, Surroundings(AS_OF, ["source"], pl.Series(["i1"])), "example")
    assert verdict.quarantined["rule"].to_list() == ["user_id_missing"]


def test_own_event_types() -> None:
    rules = contract("interactions")
    frame = _rows(rules, [{"event": "lend"}, {"event": "view"}])
    verdict = check(frame, rules, Surroundings(AS_OF, ["source"], pl.Series(["i1"]), ["lend"]), "example")
    assert verdict.quarantined.select("event", "rule").rows() == [("view", "event_unknown")]


def _rows(rules: Contract, given: list[dict[str, Any]]) -> pl.DataFrame:
    rows = [{**rules.healthy, **{name: _written_out(value) for name, value in change.items()}} for change in given]
    columns = sorted({name for row in rows for name in row} | set(SCHEMAS[rules.table].names))
    schema = schema_of(rules.table, columns)
    table = pa.Table.from_pylist([{name: row.get(name) for name in schema.names} for row in rows], schema=schema)
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame


def _written_out(value: Any) -> Any:
    """`{text: x, times: 257}` stands for a text nobody wants to read."""
    return value["text"] * value["times"] if isinstance(value, dict) else value


def _changed_columns(rules: Contract, changes: dict[str, str | None]) -> pl.DataFrame:
    frame = _rows(rules, [{}])
    types = {"string": pl.String, "int64": pl.Int64}
    for column, kind in changes.items():
        changed = pl.lit(None).cast(types[kind]).alias(column) if kind else None
        frame = frame.drop(column) if changed is None else frame.with_columns(changed)
    return frame
