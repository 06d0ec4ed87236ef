"""A run, followed live: stage, state, duration, and one line of what each stage found."""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from pipeline.follow.airflow_api import AirflowApi
from pipeline.graph import Graph, split_address
from pipeline.runs.manifest import read_manifests
from pipeline.runs.opening import OPENING
from pipeline.runs.workspace import record_path, run_record, workspace_path
from pipeline.runs.wrapper import RUN_FOLDER, attempts_folder
from pipeline.settings import Settings

ENDED = {"success", "failed"}
_STYLE = {"success": "green", "cached": "cyan", "running": "yellow", "failed": "bold red", "held": "magenta",
          "up_for_retry": "yellow", "upstream_failed": "red"}  # fmt: skip
POLL_SECONDS = 0.7


def follow(api: AirflowApi, run_id: str, graph: Graph, settings: Settings, console: Console) -> str:
    """Show the run until it ends; returns its state, `success` or `failed`."""
    state = "queued"
    printed: set[tuple[str, str]] = set()
    with Live(console=console, refresh_per_second=4, transient=False) as live:
        while True:
            state = api.run_state(run_id)
            rows = stage_rows(api.tasks(run_id), run_id, graph, settings)
            if console.is_terminal:
                live.update(_table(rows, run_id, state))
            else:
                _print_news(rows, printed)
            if state in ENDED:
                break
            time.sleep(POLL_SECONDS)
        if not console.is_terminal:
            live.update(_table(rows, run_id, state))
    return state


def stage_rows(tasks: list[dict[str, Any]], run_id: str, graph: Graph, settings: Settings) -> list[dict[str, Any]]:
    """One row for each stage of the run: address, state, seconds, found. Stages not yet known to Airflow come last."""
    folder = run_folder(settings, run_id)
    try:
        rows = _rows_of(folder, tasks, run_id, graph, settings)
    except FileNotFoundError:
        if folder is None or folder.exists():
            raise
    else:
        if folder is None or folder.exists():
            return rows
    # the run was closed while it was read: now there is its record
    return _rows_of(run_folder(settings, run_id), tasks, run_id, graph, settings)


def _rows_of(
    folder: Path | None, tasks: list[dict[str, Any]], run_id: str, graph: Graph, settings: Settings
) -> list[dict[str, Any]]:
    targets = run_record(folder)["targets"] if folder else []
    by_address = {_address(task, targets): task for task in tasks}
    manifests = read_manifests(folder) if folder else {}
    rows = []
    for address in [OPENING, *graph.addresses(targets), "close"]:
        task = by_address.get(address, {})
        manifest = manifests.get(address)
        state = task.get("state") or "waiting"
        if manifest and state == "success" and manifest["source"] == "cached":
            state = "cached"
        if manifest and state == "skipped":
            state = "held"
        where = record_path(settings, run_id) if address == OPENING else folder
        found = manifest["message"] if manifest else _last_message(where, address)
        rows.append({"stage": address, "state": state, "seconds": _seconds(task), "found": found})
    return rows


def run_folder(settings: Settings, run_id: str) -> Path | None:
    """The workspace of an open run, the record of a closed one, None before it is opened."""
    for folder in (workspace_path(settings, run_id), record_path(settings, run_id)):
        if (folder / "run.yaml").exists():
            return folder
    return None


def exit_code_of(run_id: str, settings: Settings) -> int | None:
    """The exit code of the task that failed last in a run, if one did."""
    folders = [workspace_path(settings, run_id), record_path(settings, run_id)]
    ended = [a for folder in folders for a in _attempts(folder) if a.get("exit_code")]
    return int(max(ended, key=lambda a: a["ended"])["exit_code"]) if ended else None


def _seconds(task: dict[str, Any]) -> float | None:
    if task.get("state") == "running" and task.get("start_date"):
        return (datetime.now(UTC) - datetime.fromisoformat(task["start_date"])).total_seconds()
    return task.get("duration")


def _address(task: dict[str, Any], targets: list[str]) -> str:
    name = task["task_id"].rpartition(".")[2]
    index = task["map_index"]
    return f"{name}@{targets[index]}" if 0 <= index < len(targets) else name


def _attempts(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in (folder / RUN_FOLDER / "attempts").rglob("[!.]*.json")]


def _last_message(folder: Path | None, address: str) -> str:
    if folder is None:
        return ""
    name, target = split_address(address)
    records = [json.loads(p.read_text()) for p in attempts_folder(folder, name, target).glob("[!.]*.json")]
    ended = [record for record in records if "ended" in record]
    return max(ended, key=lambda r: r["ended"])["message"] if ended else ""


def _table(rows: list[dict[str, Any]], run_id: str, state: str) -> Table:
    table = Table(title=f"{run_id}: {state}", title_justify="left", expand=True)
    table.add_column("stage", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("time", justify="right", no_wrap=True)
    table.add_column("found", ratio=1)
    for row in rows:
        style = _STYLE.get(row["state"], "dim")
        seconds = f"{row['seconds']:.1f} s" if row["seconds"] else ""
        table.add_row(row["stage"], f"[{style}]{row['state']}[/]", seconds, escape(row["found"]))
    return table


def _print_news(rows: list[dict[str, Any]], printed: set[tuple[str, str]]) -> None:
    # in a log there is no table to redraw: a line for every change of state
    for row in rows:
        news = (row["stage"], row["state"])
        if row["state"] != "waiting" and news not in printed:
            printed.add(news)
            print(f"{row['stage']:<22} {row['state']:<10} {row['found']}", file=sys.stdout, flush=True)
