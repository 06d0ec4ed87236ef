"""The pieces every answer on a screen is put together from: tables, counts, spans, and lists that are cut."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from pipeline.lineage.diff import Change

SHOWN = 8  # rows of a list before it is cut
HASH = re.compile("[0-9a-f]{32,}")


def fact_table(*rows: tuple[str, str | None]) -> Table:
    """Names and values, one a line."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, escape(value or "–"))
    return table


def table_of(first: str, *others: str) -> Table:
    """A table whose counts are to the right."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(first, overflow="fold")
    for name in others:
        right = name in ("rows", "its rows", "runs", "contents")
        table.add_column(name, justify="right" if right else "left", overflow="fold")
    return table


def cut(lines: Sequence[str], limit: int = SHOWN) -> Iterable[str]:
    """The first `limit` lines, and how many more there are."""
    yield from lines[:limit]
    yield from more(len(lines), "line", limit)


def more(count: int, what: str, limit: int = SHOWN) -> list[str]:
    """A line that says how many are not shown, or nothing."""
    return [f"[dim]and {count_of(count - limit, f'more {what}')}: --json has them all[/]"] if count > limit else []


def and_more(table: Table, rows: Sequence[Any]) -> None:
    """`more` as the last row of a table."""
    if len(rows) > SHOWN:
        table.add_row(f"  [dim]and {len(rows) - SHOWN} more: --json[/]", "", "")


def value_text(value: Any, digits: int = 32) -> str:
    """A changed value, short."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, dict):
        return escape(" ".join(value_text(inner, 10) for inner in value.values()))
    if isinstance(value, int):
        return str(value)
    if HASH.fullmatch(str(value)):
        digits = 10
    return escape(str(value)[:digits])


def moved(change: Change) -> str:
    """By how much a figure moved, when it is one."""
    both = (change.before, change.after)
    if not all(isinstance(v, float) for v in both):
        return ""
    return f"  ({change.after - change.before:+.4g})"


def span(first: datetime | None, last: datetime | None) -> str:
    """A range of days."""
    return f" {day(first)} to {day(last)}" if first or last else ""


def day(value: datetime | None) -> str:
    """The day of a moment."""
    return "–" if value is None else f"{value:%Y-%m-%d}"


def minute(value: datetime) -> str:
    """A moment to the minute, UTC."""
    return f"{value:%Y-%m-%d %H:%M}"


def count_of(count: int | None, what: str) -> str:
    """A number with its noun."""
    return f"{number(count)} {what}{'' if count == 1 else 's'}"


def number(count: int | None) -> str:
    """A number with commas, a dash for none."""
    return "–" if count is None else f"{count:,}"
