"""What is in a stage's output: its files with md5, and of each table the rows, columns and time range.

Nothing is read twice: the md5 of every file stands in DVC's own listing of the folder, and what a Parquet file says of
itself stands in its footer. Only the list of users is read from rows, one column, once for every new file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from pipeline.data.file_md5 import file_md5
from pipeline.runs.manifest_store import users_path, write_immutable

TIME = "timestamp"
USER = "user_id"
# Outputs whose rows are asked for by person: what came in, and what of it was put aside.
LISTED_BY_USER = ("data/snapshot", "data/quarantine")
DIRECTORY = ".dir"  # how DVC marks the md5 of a folder


def contents_of(workspace: Path, home: Path, locked: Mapping[str, Any]) -> dict[str, Any]:
    """The entry of one output in a manifest.

    Args:
        workspace: where the output stands.
        home: `$WARMSTART_HOME`, with the DVC cache.
        locked: the output as `dvc.lock` has it: path, md5, size, nfiles.

    Returns:
        md5, bytes, nfiles, rows (None without a table) and `files`, sorted by path.
    """
    root = workspace / locked["path"]
    files = [_described(root / name if name else root, name, md5) for name, md5 in _listing(root, home, locked["md5"])]
    rows = [file["rows"] for file in files if "rows" in file]
    return {
        "md5": locked["md5"],
        "bytes": locked.get("size", sum(file["bytes"] for file in files)),
        "nfiles": len(files),
        "rows": sum(rows) if rows else None,
        "files": files,
    }


def list_users(workspace: Path, home: Path, path: str, contents: Mapping[str, Any]) -> None:
    """For every new file of the output `path` that has a user column, keep who is in it in the manifest store."""
    if path not in LISTED_BY_USER:
        return
    for file in contents["files"]:
        kept = users_path(home, file["md5"])
        if USER in file.get("columns", {}) and not kept.exists():
            write_immutable(kept, _users(workspace / path / file["path"]))


def _listing(root: Path, home: Path, md5: str) -> list[tuple[str, str]]:
    """(path inside the output, md5) of every file; the path of a single file's output is ""."""
    if not md5.endswith(DIRECTORY):
        return [("", md5)]
    listed = home / "dvc" / "cache" / "files" / "md5" / md5[:2] / md5[2:]
    if listed.exists():
        return sorted((entry["relpath"], entry["md5"]) for entry in json.loads(listed.read_text("utf-8")))
    # a cache that is not ours: the files themselves say it
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return [(path.relative_to(root).as_posix(), file_md5(path)) for path in files]


def _described(file: Path, name: str, md5: str) -> dict[str, Any]:
    about: dict[str, Any] = {"path": name or file.name, "md5": md5, "bytes": file.stat().st_size}
    return about | _table(file) if file.suffix == ".parquet" else about


def _table(file: Path) -> dict[str, Any]:
    import pyarrow.parquet as pq

    footer = pq.ParquetFile(file)
    earliest, latest = _time_range(footer.metadata)
    columns = {column.name: str(column.type) for column in footer.schema_arrow}
    return {"rows": footer.metadata.num_rows, "columns": columns, "from": earliest, "to": latest}


def _time_range(metadata: Any) -> tuple[str | None, str | None]:
    """First and last `timestamp` (ISO 8601, UTC) by the statistics of the row groups; None where there are none."""
    names = [metadata.schema.column(index).path for index in range(metadata.num_columns)]
    if TIME not in names:
        return None, None
    place = names.index(TIME)
    groups = [metadata.row_group(number).column(place).statistics for number in range(metadata.num_row_groups)]
    known = [group for group in groups if group is not None and group.has_min_max]
    ends = [end for group in known for end in (group.min, group.max) if isinstance(end, datetime)]
    return (_iso(min(ends)), _iso(max(ends))) if ends else (None, None)


def _iso(moment: datetime) -> str:
    return moment.replace(tzinfo=None).isoformat() + "Z"


def _users(file: Path) -> bytes:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    ids = pq.read_table(file, columns=[USER], partitioning=None)[USER].cast(pa.string())
    unique = pc.unique(ids.drop_null())
    ordered = unique.take(pc.sort_indices(unique))
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({USER: ordered}), sink, compression="zstd", version="2.6")
    content: bytes = sink.getvalue().to_pybytes()
    return content
