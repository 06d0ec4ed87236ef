"""The state of the data a run was opened with."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from pathlib import Path

import pytest

from pipeline.data import digests
from pipeline.data.dataset import Source
from pipeline.data.digests import source_digests
from pipeline.exit_codes import BadConfiguration, DataBrokeContract
from pipeline.settings import settings
from tests.stages_by_hand import take_snapshot, write_yaml


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WARMSTART_HOME", str(tmp_path / "home"))
    settings.cache_clear()
    yield tmp_path / "home"
    settings.cache_clear()


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    domain = {"role": ["source", "target"], "interactions": "rows-*.csv", "items": "items.csv"}
    folder = write_yaml(tmp_path / "shop", {"domains": {"shop": domain}})
    (folder / "rows-1.csv").write_text("user_id,item_id,timestamp\nu1,i1,2025-03-01T10:00:00Z\n")
    (folder / "rows-2.csv").write_text("user_id,item_id,timestamp\nu2,i1,2025-03-02T10:00:00Z\n")
    (folder / "items.csv").write_text("item_id,text\ni1,a kettle\n")
    return folder


def test_files_by_content(shop: Path) -> None:
    first = source_digests(str(shop))
    assert set(first) == {"dataset.yaml", "shop/interactions", "shop/items", "pseudonyms"}
    assert first["shop/items"] == hashlib.md5((shop / "items.csv").read_bytes()).hexdigest()
    assert source_digests(str(shop)) == first
    os.utime(shop / "items.csv")
    assert source_digests(str(shop)) == first
    (shop / "rows-2.csv").write_text("user_id,item_id,timestamp\nu2,i1,2025-03-02T10:00:01Z\n")
    changed = source_digests(str(shop))
    assert {name for name in first if first[name] != changed[name]} == {"shop/interactions"}
    (shop / "rows-3.csv").write_text("user_id,item_id,timestamp\n")
    assert source_digests(str(shop))["shop/interactions"] != changed["shop/interactions"]


def test_unchanged_files_are_read_once(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    original = digests.file_md5
    monkeypatch.setattr(digests, "file_md5", lambda path: (read.append(path.name), original(path))[1])
    source_digests(str(shop))
    source_digests(str(shop))
    assert sorted(read) == ["dataset.yaml", "items.csv", "rows-1.csv", "rows-2.csv"]


def test_a_broken_or_read_only_memory_does_no_harm(shop: Path, home: Path) -> None:
    first = source_digests(str(shop))
    (home / "cache" / "digests.json").write_text("{broken")
    assert source_digests(str(shop)) == first


def test_another_key_is_another_snapshot(shop: Path, home: Path) -> None:
    first = source_digests(str(shop))
    (home / "secrets" / "user_id.key").unlink()
    assert source_digests(str(shop))["pseudonyms"] != first["pseudonyms"]


def test_sql_is_never_the_same_unless_it_is_named(tmp_path: Path) -> None:
    database = tmp_path / "shop.db"
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE events (updated_at TEXT)")
    url = f"sqlite:///{database}"

    def digest(**more: str) -> str:
        return digests.digest(Source(sql=url, table="events", **more))

    assert digest() != digest()
    assert digest(version="2025-12-31") == digest(version="2025-12-31") != digest(version="2026-01-01")
    asked = {"version_query": "SELECT max(updated_at), count(*) FROM events"}
    before = digest(**asked)
    assert digest(**asked) == before
    with sqlite3.connect(database) as connection:
        connection.execute("INSERT INTO events VALUES ('2025-12-31')")
    assert digest(**asked) != before


def test_missing_file_is_named(shop: Path) -> None:
    (shop / "items.csv").unlink()
    with pytest.raises(BadConfiguration, match=r"items\.csv does not exist"):
        source_digests(str(shop))


def test_data_that_changed_after_the_run_was_opened_is_refused(shop: Path, tmp_path: Path) -> None:
    opened_with = source_digests(str(shop))
    take_snapshot(tmp_path / "same", shop, sources=opened_with)
    (shop / "items.csv").write_text("item_id,text\ni1,another kettle\n")
    with pytest.raises(DataBrokeContract, match=r"^shop/items of .* changed after the run was opened"):
        take_snapshot(tmp_path / "changed", shop, sources=opened_with)


def test_the_world_has_no_sources() -> None:
    assert source_digests("world:tiny") == {}
