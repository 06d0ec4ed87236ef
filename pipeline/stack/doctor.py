"""`doctor`: is this machine fit, are the servers well, and what to do about each thing that is wrong."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.settings import Settings

OK, WARNING, ERROR = "ok", "warning", "error"
MARKS = {OK: "[green]✓", WARNING: "[yellow]![/]", ERROR: "[red]✗"}


@dataclass(frozen=True)
class Check:
    """One thing that was looked at. `fix` says what to do; empty when nothing is to be done."""

    name: str
    level: str
    found: str
    fix: str = ""


def doctor(settings: Settings) -> list[Check]:
    """All checks, in the order in which a person would repair things."""
    return []
