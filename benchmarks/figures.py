"""Where a benchmark's figures go: `bench/NAME.json` under `$WARMSTART_HOME`, and a table on the terminal."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterable
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from pipeline.runs.attempt import write_json
from pipeline.settings import CHECKOUT, Settings

Figure = tuple[str, float | str, str]  # name, value, unit


def write_figures(benchmark: str, figures: Iterable[Figure], settings: Settings | None = None) -> None:
    """Write and print the figures of one benchmark, with the commit and the machine they were measured on."""
    where = (settings or Settings()).home / "bench" / f"{benchmark}.json"
    rows = [{"name": name, "value": value, "unit": unit} for name, value, unit in figures]
    write_json(where, {"commit": commit(), "machine": machine(), "figures": rows})
    table = Table(title=f"bench-{benchmark}", title_justify="left")
    for column in ("figure", "value", "unit"):
        table.add_column(column, justify="right" if column == "value" else "left")
    for row in rows:
        value: Any = row["value"]
        table.add_row(str(row["name"]), f"{value:.4g}" if isinstance(value, float) else str(value), str(row["unit"]))
    console = Console()
    console.print(table)
    console.print(f"written to {where}", soft_wrap=True)


def commit() -> str:
    """The checkout's commit; `+` when files differ from it."""
    head = _git("rev-parse", "--short=10", "HEAD")
    return head + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "cpu": platform.machine(),
        "python": platform.python_version(),
    }


def _git(*words: str) -> str:
    return subprocess.run(["git", "-C", CHECKOUT, *words], capture_output=True, text=True, check=True).stdout.strip()
