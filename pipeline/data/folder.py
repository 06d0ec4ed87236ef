"""Writing a dataset folder: `dataset.yaml` beside `<domain>/<table>.parquet`, all of it or nothing."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from pipeline.data.schema import TableName, write_table
from pipeline.exit_codes import BadConfiguration


def write_dataset(
    out: Path, head: Mapping[str, Any], domains: Mapping[str, tuple[list[str], Mapping[TableName, pl.DataFrame]]]
) -> Path:
    """Write a dataset folder and give the path of its `dataset.yaml`.

    Args:
        out: a new or empty folder, or one that holds a dataset already (which is replaced).
        head: `name`, `clock`, `protocol` and whatever else `Dataset` knows.
        domains: name -> (roles, tables); a table that is not there is left out.

    Raises:
        BadConfiguration: `out` holds something else, or may not be written.
    """
    out = out.expanduser().absolute()
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / "dataset.yaml").is_file())):
        raise BadConfiguration(f"--out {out} is there and holds no dataset; give a new folder.")
    draft = out.with_name(f".{out.name}.draft")
    try:
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        described: dict[str, Any] = {}
        for name, (roles, tables) in domains.items():
            described[name] = {"role": roles if len(roles) > 1 else roles[0]}
            for table, frame in tables.items():
                write_table(frame, draft / name / f"{table}.parquet")
                described[name][table] = f"{name}/{table}.parquet"
        text = yaml.safe_dump({**head, "domains": described}, sort_keys=False, allow_unicode=True)
        (draft / "dataset.yaml").write_text(text, "utf-8")
        shutil.rmtree(out, ignore_errors=True)
        draft.rename(out)
    except OSError as error:
        raise BadConfiguration(f"--out {out} could not be written: {error.strerror or error}.") from error
    return out / "dataset.yaml"
