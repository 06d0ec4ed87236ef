"""What a run ended with: each model of each target beside the baselines, where to look, and how to log in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from pipeline.settings import Settings

FIGURES = {"NDCG@10\nmasked": ("masked", "ndcg10"), "HR@10\nmasked": ("masked", "hr10"),
           "NDCG@10\nunmasked": ("unmasked", "ndcg10"), "HR@10\nunmasked": ("unmasked", "hr10")}  # fmt: skip


def show_result(console: Console, folder: Path, settings: Settings, logins: dict[str, str]) -> None:
    """Print the result tables of a run, the gate's verdicts, the reports and the addresses."""
    for path in sorted((folder / "reports" / "evaluation").glob("*/metrics.json")):
        metrics = json.loads(path.read_text())
        console.print()
        console.print(result_table(metrics))
        receipt = folder / "receipts" / "register" / metrics["target"] / "receipt.json"
        if receipt.exists():
            console.print(_verdict(json.loads(receipt.read_text())))
    console.print(f"\nreports   {folder / 'reports'}", soft_wrap=True)
    for user, password in logins.items():
        console.print(f"airflow   {settings.airflow_uri}  user {user}, password {password}", soft_wrap=True)
    console.print(f"mlflow    {settings.mlflow_uri}  no login: it listens on {settings.host} only", soft_wrap=True)


def result_table(metrics: dict[str, Any]) -> Table:
    """Models and baselines of one target: parameters over bytes, and every figure over its 95 % interval."""
    protocol = metrics["protocol"].replace("_", "-")
    title = f"{metrics['target']}: {protocol}, full ranking, n = {metrics['n']:,}"
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    table.caption, table.caption_justify = "below each figure its 95 % interval over users", "left"
    table.add_column("model", max_width=18)
    table.add_column("parameters\nbytes", justify="right", no_wrap=True)
    for heading in FIGURES:
        table.add_column(heading, justify="right", no_wrap=True)
    for model in metrics["models"]:
        figures = [_figure(model.get(mode), name) for mode, name in FIGURES.values()]
        size = f"{_count(model['parameters'])}\n[dim]{_count(model['bytes'])}[/]"
        style = {"model": "", "oracle": "italic"}.get(model["kind"], "dim")
        table.add_row(model["name"], size, *figures, style="bold" if model["name"] == "served" else style)
    return table


def _figure(block: dict[str, Any] | None, name: str) -> str:
    if not block or name not in block:
        return "–"
    figure = block[name]
    # three digits are more than the interval's ends are known to
    low, high = (f"{figure[end]:.3f}".removeprefix("0") for end in ("low", "high"))
    return f"{figure['value']:.4f}\n[dim]{low}–{high}[/]"


def _count(value: int | None) -> str:
    return f"{value:,}" if value else "–"


def _verdict(receipt: dict[str, Any]) -> str:
    colour = {"promote": "green", "refuse": "red"}.get(receipt["verdict"], "magenta")
    version = f"{receipt['model']} version {receipt['version']}"
    return f"[bold {colour}]{receipt['verdict']}[/] {version}: {'; '.join(receipt['reasons'])}"
