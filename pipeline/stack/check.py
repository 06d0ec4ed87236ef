"""What `doctor` says about one thing it looked at."""

from __future__ import annotations

from dataclasses import dataclass

OK, WARNING, ERROR = "ok", "warning", "error"
MARKS = {OK: "[green]✓[/]", WARNING: "[yellow]![/]", ERROR: "[red]✗[/]"}


@dataclass(frozen=True)
class Check:
    """One finding. `fix` says what to do; empty when nothing is to be done."""

    name: str
    level: str
    found: str
    fix: str = ""
