"""A champion as a closed run leaves one: an entry of the promotion log, a record, contents in DVC's cache."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import yaml

from pipeline.lineage.cache import object_path
from pipeline.lineage.database import connected
from pipeline.registry.promotion_log import Entry, append, head
from pipeline.runs.folders import record_folder
from pipeline.settings import Settings

AS_OF = "2026-01-01T00:00:00Z"


def put(home: Path, content: bytes, ending: str = "") -> str:
    """A content in the cache; returns its md5."""
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest() + ending
    path = object_path(home / "dvc" / "cache", md5)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return md5


def put_folder(home: Path, folder: Path) -> str:
    """A folder in the cache, as DVC keeps it."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    files = [{"md5": put(home, path.read_bytes()), "relpath": str(path.relative_to(folder))} for path in paths]
    return put(home, json.dumps(files).encode(), ".dir")


def promote(
    where: Settings, target: str, run_id: str, outputs: Mapping[str, Path], metrics: Mapping[str, object] | None = None
) -> dict[str, str]:
    """Make the next version of `target` the champion, from a run with these outputs; their md5 by path."""
    record = record_folder(where.home, run_id)
    record.mkdir(parents=True)
    md5 = {path: put_folder(where.home, folder) for path, folder in outputs.items()}
    outs = [{"path": path, "md5": value} for path, value in md5.items()]
    (record / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": {"all": {"cmd": "x", "outs": outs}}}))
    (record / "run.yaml").write_text(yaml.safe_dump({"run_id": run_id, "as_of": AS_OF}))
    if metrics is not None:
        report = record / "reports" / "evaluation" / target
        report.mkdir(parents=True)
        (report / "metrics.json").write_text(json.dumps(metrics))
    with connected() as connection:
        before = head(connection, target)  # the log is append-only: other tests' entries stay
        old = before.to_version if before else None
        entry = Entry(
            target, datetime.now(UTC), f"run {run_id}", "promote", "better", None, old, 1 + (old or 0), run_id
        )
        append(connection, entry)
    return md5
