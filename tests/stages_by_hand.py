"""Running snapshot and validate on small data, without wrapper, DVC or Airflow."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import polars as pl
import yaml

from pipeline.data.partitions import read_rows
from pipeline.data.schema import TABLES, read_table
from pipeline.runs.contract import Job, Summary
from pipeline.stages import snapshot, validate

AS_OF = "2026-01-01T00:00:00Z"


def folders(root: Path, *names: str) -> dict[str, Path]:
    """Empty folders under `root`, by name."""
    made = {name: root / name for name in names}
    for folder in made.values():
        folder.mkdir(parents=True)
    return made


def take_snapshot(root: Path, data: str | Path, as_of: str = AS_OF, seed: int = 7, **params: object) -> Path:
    """The snapshot's folder."""
    outputs = folders(root, "data/snapshot")
    given = snapshot.Params.model_validate({"data": str(data), "as_of": as_of, "seed": seed, **params})
    snapshot.run({}, outputs, given, Job(scratch=root))
    return outputs["data/snapshot"]


def run_validate(root: Path, taken: Path, as_of: str = AS_OF, share: float = 0.05) -> tuple[Summary, dict[str, Path]]:
    """Summary and output folders of validate; the folders are under `root`, also when it raises."""
    outputs = folders(root, "data/valid", "data/quarantine", "reports/validation")
    given = validate.Params.model_validate({"as_of": as_of, "max_quarantined_share": share})
    return validate.run({"data/snapshot": taken}, outputs, given, Job(scratch=root)), outputs


def tables(folder: Path, domain: str) -> dict[str, pl.DataFrame]:
    """The three tables of one domain of a snapshot, of the valid rows, or of the quarantine (a file a table)."""
    single = {name: folder / domain / f"{name}.parquet" for name in TABLES}
    return {
        name: read_table(path) if path.exists() else read_rows(folder / domain, name) for name, path in single.items()
    }


def bytes_of(folder: Path) -> dict[str, bytes]:
    """Every file of a folder by its relative path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def write_yaml(folder: Path, content: Mapping[str, object]) -> Path:
    """A folder with this dataset.yaml."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset.yaml").write_text(yaml.safe_dump(dict(content), allow_unicode=True), "utf-8")
    return folder
