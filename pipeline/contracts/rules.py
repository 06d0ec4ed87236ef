"""The contracts as data: the YAML files beside this one, typed."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

from pipeline.data.schema import TableName


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Case(_Strict):
    """An example to read and to run: rows (or, for the layout, columns) and what becomes of them."""

    given: list[dict[str, Any]] | None = Field(default=None, description="changes to the healthy row, one each")
    columns: dict[str, str | None] | None = Field(default=None, description="column -> its type, null: not there")
    items: list[Any] = Field(default_factory=list, description="ids known besides i1 and i2")
    roles: tuple[str, ...] = ("source", "target")
    also: list[str] = Field(default_factory=list, description="rules that such rows cannot but break as well")
    expect: Literal["stops", "passes"] | list[Literal["quarantined", "kept"]]


class Rule(_Strict):
    """One rule: an expectation of Great Expectations by name, and why it is one."""

    rule: str
    level: Literal["layout", "row", "table"]
    role: Literal["source", "target"] | None = Field(default=None, description="only for domains with this role")
    why: str
    expectation: str
    kwargs: dict[str, Any]
    cases: list[Case] = Field(min_length=1)


class Contract(_Strict):
    """All rules of one table."""

    table: TableName
    healthy: dict[str, Any]
    rules: list[Rule]
    events: tuple[str, ...] = ()

    def of_level(self, *levels: str) -> list[Rule]:
        """The rules of these levels, in the file's order."""
        return [rule for rule in self.rules if rule.level in levels]


@cache
def contract(table: TableName) -> Contract:
    """The contract of a table."""
    return Contract.model_validate(yaml.safe_load(_file(table).read_text("utf-8")))


def contract_digest(table: TableName) -> str:
    """sha256 of the file a table's contract is written in."""
    return hashlib.sha256(_file(table).read_bytes()).hexdigest()


def _file(table: TableName) -> Path:
    return Path(__file__).parent / f"{table}.yaml"
