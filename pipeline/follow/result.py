"""What a run ended with: each model of each target beside the baselines, where to look, and how to log in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from pipeline.settings import Settings


def show_result(console: Console, folder: Path, settings: Settings, logins: dict[str, str]) -> None:
    """Print the result tables of a finished run, the gate's verdicts, the reports and the addresses."""
    for path in sorted((folder / "reports" / "evaluation").glob("*/metrics.json")):
        metrics = json.loads(path.read_text())
        console.print(result_table(metrics))
        receipt = folder / "receipts" / "register" / metrics["target"] / "receipt.json"
        if receipt.exists():
            console.print(_verdict(json.loads(receipt.read_text())))
    console.print(f"reports   {folder / 'reports'}", soft_wrap=True)
    console.print(f"airflow   {settings.airflow_uri}  ({', '.join(f'{u} / {p}' for u, p in logins.items())})")
    console.print(f"mlflow    {settings.mlflow_uri}  (no login; bound to {settings.host})")


def result_table(metrics: dict[str, Any]) -> Table:
    """Models and baselines of one target; every figure with its 95 % interval, n in the title."""
    title = f"{metrics['target']}: {metrics['protocol']}, full ranking, n = {metrics['n']}"
    table = Table(title=title, title_justify="left")
    for column in ("model", "parameters", "bytes", "NDCG@10 masked", "HR@10 masked", "NDCG@10", "HR@10"):
        table.add_column(column, justify="left" if column == "model" else "right", no_wrap=True)
    for model in metrics["models"]:
        figures = [_figure(model.get(mode), name) for mode in ("masked", "unmasked") for name in ("ndcg10", "hr10")]
        style = "bold" if model["name"] == "served" else "" if model["kind"] == "model" else "dim"
        table.add_row(model["name"], _count(model["parameters"]), _count(model["bytes"]), *figures, style=style)
    return table


def _figure(block: dict[str, Any] | None, name: str) -> str:
    if not block or name not in block:
        return "–"
    figure = block[name]
    return f"{figure['value']:.4f} [{figure['low']:.4f}, {figure['high']:.4f}]"


def _count(value: int | None) -> str:
    return f"{value:,}" if value else "–"


def _verdict(receipt: dict[str, Any]) -> str:
    version = f"{receipt['model']} version {receipt['version']}"
    return f"{receipt['target']}: [bold]{receipt['verdict']}[/], {version}: {'; '.join(receipt['reasons'])}\n"
