"""What a champion learned from and promised: from the record of its run, and DVC's cache."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import polars as pl

from pipeline.data.schema import read_table
from pipeline.lineage.cache import find, listing
from pipeline.runs.dvc_lock import locked_outputs
from pipeline.runs.warm_start import champion_runs, run_folder
from pipeline.runs.workspace import run_record
from pipeline.settings import Settings

VALID = "data/valid"


@dataclass(frozen=True)
class Baseline:
    """A champion, as its run saw the world.

    Attributes:
        run_id: that made it.
        as_of: before which it learned.
        interactions, items: canonical tables of its target domain.
        hr10: HR@10 of the served model on the test users, seen items masked; None without test users.
        n: test users behind it.
    """

    target: str
    run_id: str
    as_of: datetime
    interactions: pl.DataFrame
    items: pl.DataFrame
    hr10: float | None
    n: int


def champion_baseline(settings: Settings, target: str) -> Baseline | None:
    """The baseline of the champion of `target`; None without a champion, or when its rows are no longer in the cache.

    Raises:
        PassingFault: PostgreSQL does not answer.
    """
    runs = champion_runs(settings, [target])
    if not runs:
        return None
    folder = run_folder(settings, runs[0])
    md5 = locked_outputs(folder).get(VALID, {}).get("md5")
    whole = find(settings, md5) if md5 else None
    if whole is None:
        return None
    files = {file["relpath"]: find(settings, file["md5"]) for file in listing(whole)}
    parts = [path for name, path in files.items() if name.startswith(f"{target}/interactions/") and path]
    items = files.get(f"{target}/items.parquet")
    if not parts or items is None:
        return None
    hr10, n = _promise(folder / "reports" / "evaluation" / target / "metrics.json")
    record = run_record(folder)
    as_of = datetime.fromisoformat(record["as_of"])
    rows = pl.concat([read_table(path) for path in parts], how="diagonal")
    return Baseline(target, runs[0], as_of, rows, read_table(items), hr10, n)


def _promise(metrics: Path) -> tuple[float | None, int]:
    if not metrics.exists():
        return None, 0
    found = json.loads(metrics.read_text("utf-8"))
    served = next((row for row in found["models"] if row["name"] == "served"), None)
    if served is None or not found["n"]:
        return None, 0
    value = served["masked"]["hr10"]
    return float(value["value"] if isinstance(value, dict) else value), int(found["n"])
