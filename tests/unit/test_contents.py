"""What is in an output folder: files and md5 as DVC has them, rows and time range as Parquet has them."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from pipeline.data.schema import write_table
from pipeline.runs.contents import contents_of, list_users
from pipeline.runs.manifest_store import users_path

START = datetime(2025, 3, 1, tzinfo=UTC)


def md5(path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


@pytest.fixture
def workspace(tmp_path):
    folder = tmp_path / "data" / "snapshot" / "harbour"
    moments = [START + timedelta(hours=n, microseconds=n) for n in range(1, 300_001)]
    rows = pl.DataFrame(
        {"user_id": [["b", None, "a", "ü"][n % 4] for n in range(300_000)], "timestamp": moments},
        schema_overrides={"timestamp": pl.Datetime("us", "UTC")},
    )
    write_table(rows, folder / "interactions" / "2025-03.parquet")  # two row groups
    write_table(rows.clear(), folder / "interactions" / "undated.parquet")
    write_table(pl.DataFrame({"item_id": ["i", "j"]}), folder / "items.parquet")
    (folder.parent / "dataset.json").write_text("{}")
    return tmp_path


@pytest.fixture
def locked(workspace):
    """The output as dvc.lock has it, and DVC's listing in the cache."""
    root = workspace / "data" / "snapshot"
    files = [path for path in root.rglob("*") if path.is_file()]
    listing = [{"md5": md5(path), "relpath": path.relative_to(root).as_posix()} for path in files]
    cached = workspace / "home" / "dvc" / "cache" / "files" / "md5" / "ab" / "cdef.dir"
    cached.parent.mkdir(parents=True)
    cached.write_text(json.dumps(listing))
    return {"path": "data/snapshot", "md5": "abcdef.dir", "size": sum(path.stat().st_size for path in files)}


def test_files_rows_columns_and_time_range(workspace, locked):
    found = contents_of(workspace, workspace / "home", locked)
    assert {name: found[name] for name in ("md5", "bytes", "nfiles", "rows")} == {
        "md5": "abcdef.dir", "bytes": locked["size"], "nfiles": 4, "rows": 300_002,
    }  # fmt: skip
    files = {file["path"]: file for file in found["files"]}
    assert list(files) == sorted(files)
    month = files["harbour/interactions/2025-03.parquet"]
    assert month["rows"] == 300_000
    assert month["columns"] == {"user_id": "large_string", "timestamp": "timestamp[us, tz=UTC]"}
    assert month["from"] == "2025-03-01T01:00:00.000001Z"
    assert month["to"] == (START + timedelta(hours=300_000, microseconds=300_000)).isoformat()[:-6] + "Z"
    assert (files["harbour/interactions/undated.parquet"]["from"], files["harbour/items.parquet"]["to"]) == (None, None)
    path = workspace / "data/snapshot/dataset.json"
    assert files["dataset.json"] == {"path": "dataset.json", "md5": md5(path), "bytes": 2}


def test_without_dvcs_listing_the_files_are_hashed(workspace, locked):
    expected = contents_of(workspace, workspace / "home", locked)
    assert contents_of(workspace, workspace / "another home", locked) == expected


def test_an_output_that_is_one_file(workspace):
    locked = {"path": "data/snapshot/dataset.json", "md5": "99914b932bd37a50b983c5e7c90ae93b", "size": 2}
    found = contents_of(workspace, workspace / "home", locked)
    assert found["files"] == [{"path": "dataset.json", "md5": locked["md5"], "bytes": 2}]
    assert found["rows"] is None


def test_users_are_listed_once_for_every_new_file(workspace, locked):
    home = workspace / "home"
    found = contents_of(workspace, home, locked)
    list_users(workspace, home, "data/snapshot", found)
    listed = {path.stem: pl.read_parquet(path)["user_id"].to_list() for path in users_path(home, "x").parent.iterdir()}
    by_path = {file["path"]: file["md5"] for file in found["files"]}
    assert listed == {
        by_path["harbour/interactions/2025-03.parquet"]: ["a", "b", "ü"],
        by_path["harbour/interactions/undated.parquet"]: [],
    }
    first = users_path(home, by_path["harbour/interactions/2025-03.parquet"]).stat().st_mtime_ns
    list_users(workspace, home, "data/snapshot", found)
    assert users_path(home, by_path["harbour/interactions/2025-03.parquet"]).stat().st_mtime_ns == first


def test_outputs_that_are_asked_for_by_nobody_list_no_users(workspace, locked):
    list_users(workspace, workspace / "home", "data/training", contents_of(workspace, workspace / "home", locked))
    assert not users_path(workspace / "home", "x").parent.exists()
