"""snapshot: what was known at as_of, and nothing else."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from pipeline.data.dataset import Source
from pipeline.data.digests import source_digests
from pipeline.data.pseudonyms import pseudonym, secret_key
from pipeline.data.world.publish import publish
from pipeline.exit_codes import BadConfiguration
from pipeline.runs.contract import Job
from pipeline.settings import settings
from pipeline.stages import snapshot
from tests.stages_by_hand import bytes_of, tables, take_snapshot, write_yaml

BOTH = {"role": ["source", "target"], "interactions": "rows.csv"}
HEAD = "user_id,item_id,timestamp,created_at\n"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WARMSTART_HOME", str(tmp_path / "home"))
    settings.cache_clear()
    yield
    settings.cache_clear()


def shop(folder: Path, rows: str, **more: object) -> Path:
    write_yaml(folder, {"domains": {"shop": {**BOTH, **more}}})
    (folder / "rows.csv").write_text(rows, "utf-8")
    return folder


def test_same_world_same_bytes(tmp_path: Path) -> None:
    first, second = (take_snapshot(tmp_path / name, "world:tiny") for name in ("a", "b"))
    assert bytes_of(first) == bytes_of(second)
    assert bytes_of(first) != bytes_of(take_snapshot(tmp_path / "c", "world:tiny", seed=8))
    assert json.loads((first / "best_achievable.json").read_text())["harbour"]["n"] > 20


def test_world_as_a_folder_is_the_world(tmp_path: Path) -> None:
    publish(tmp_path / "tiny", "tiny", seed=7, dirt=0.01)
    write_yaml(tmp_path / "dirty", {"name": "world-tiny", "world": {"size": "tiny", "dirt": 0.01}})
    drawn, read = (take_snapshot(tmp_path / f"of-{name}", tmp_path / name) for name in ("dirty", "tiny"))
    assert bytes_of(drawn) == bytes_of(read)


def test_as_of_is_exclusive_and_late_rows_wait(tmp_path: Path) -> None:
    """A row is in when it happened before as_of and was known before as_of."""
    rows = [
        ("before", "2025-05-31T23:59:59.999999Z", ""),
        ("at", "2025-06-01T00:00:00Z", ""),
        ("after", "2025-06-01T00:00:00.000001Z", ""),
        ("abroad", "2025-06-01T01:00:00+02:00", ""),  # 23:00 UTC the day before
        ("late but known", "2025-05-01T00:00:00Z", "2025-05-31T00:00:00Z"),
        ("known at", "2025-05-01T00:00:00Z", "2025-06-01T00:00:00Z"),
        ("no moment", "", ""),
    ]
    data = shop(tmp_path / "shop", HEAD + "".join(f"u,{item},{when},{known}\n" for item, when, known in rows))
    found = tables(take_snapshot(tmp_path, data, as_of="2025-06-01T02:00:00+02:00"), "shop")["interactions"]
    assert set(found["item_id"]) == {"before", "abroad", "late but known", "no moment"}


def test_world_before_as_of_is_the_whole_world_filtered(tmp_path: Path) -> None:
    as_of = datetime(2025, 7, 1, tzinfo=UTC)
    early, whole = (
        tables(take_snapshot(tmp_path / m, "world:tiny", as_of=m), "metro") for m in ("2025-07-01", "2026-01-01")
    )
    known = whole["interactions"].filter(pl.col("timestamp") < as_of, pl.col("created_at") < as_of)
    assert early["interactions"].equals(known)
    assert 0 < len(known) < len(whole["interactions"])


@pytest.mark.parametrize("as_of", ["2025-03-01T10:00:00Z", "1999-01-01"])
def test_as_of_before_everything(tmp_path: Path, as_of: str) -> None:
    data = shop(tmp_path / "shop", HEAD + "u,i,2025-03-01T10:00:00Z,\nu,j,1970-01-01T00:00:00Z,\n")
    with pytest.raises(BadConfiguration, match=r"is not after the first interaction of shop \(2025-03-01T10:00:00Z\)"):
        take_snapshot(tmp_path, data, as_of=as_of)


def test_sorted_and_pseudonymised(tmp_path: Path) -> None:
    rows = "b,i2,2025-03-02T10:00:00Z,\na,i1,2025-03-03T10:00:00Z,\nb,i1,2025-03-01T10:00:00Z,\n"
    data = shop(tmp_path / "shop", HEAD + rows)
    taken = take_snapshot(tmp_path, data)
    found = tables(taken, "shop")
    a, b = (pseudonym(user, secret_key()) for user in "ab")
    assert set(found["users"]["user_id"]) == {a, b}
    assert found["items"]["item_id"].to_list() == ["i1", "i2"]
    own = found["interactions"].filter(pl.col("user_id") == b)
    assert own["item_id"].to_list() == ["i1", "i2"]
    assert found["interactions"]["user_id"].is_sorted()
    for content in bytes_of(taken).values():
        assert b"rows.csv" not in content


def test_users_table_is_completed_by_behaviour(tmp_path: Path) -> None:
    data = shop(
        tmp_path / "shop", HEAD + "known,i,2025-03-01T10:00:00Z,\nstranger,i,2025-03-01T10:00:00Z,\n", users="users.csv"
    )
    (data / "users.csv").write_text("user_id,attributes\nknown,age:30\nsilent,\n")
    users = tables(take_snapshot(tmp_path, data), "shop")["users"]
    names = {pseudonym(user, secret_key()): user for user in ("known", "stranger", "silent")}
    assert {names[user]: told for user, told in users.rows()} == {"known": ["age:30"], "stranger": [], "silent": []}


def test_a_user_has_one_pseudonym_in_all_domains(tmp_path: Path) -> None:
    domains = {name: {"role": role, "interactions": f"{name}.csv"} for name, role in (("a", "source"), ("b", "target"))}
    data = write_yaml(tmp_path / "two", {"domains": domains})
    for name in domains:
        (data / f"{name}.csv").write_text(HEAD + "anna,i,2025-03-01T10:00:00Z,\n")
    taken = take_snapshot(tmp_path, data)
    first, second = (tables(taken, name)["users"]["user_id"].to_list() for name in domains)
    assert first == second


def test_the_facts_name_every_source_with_its_digest_and_rows_and_no_secret(tmp_path: Path) -> None:
    rows = HEAD + "u,i,2025-03-01T10:00:00Z,\nv,i,2025-03-01T10:00:00Z,\nlate,i,2026-03-01T10:00:00Z,\n"
    data = shop(tmp_path / "shop", rows, items="items.csv")
    (data / "items.csv").write_text("item_id\ni\n")
    digests = source_digests(str(data))
    outputs = {"data/snapshot": tmp_path / "out"}
    params = snapshot.Params.model_validate({"data": str(data), "as_of": "2026-01-01", "sources": digests})
    facts = snapshot.run({}, outputs, params, Job(scratch=tmp_path)).facts["sources"]
    assert facts == {
        "shop/interactions": {"place": "rows.csv", "md5": digests["shop/interactions"], "rows": 2},
        "shop/items": {"place": "items.csv", "md5": digests["shop/items"], "rows": 1},
    }


@pytest.mark.parametrize(
    ("source", "place"),
    [
        ({"path": "https://me:pass@shop.example/rows.csv?token=abc"}, "https://shop.example/rows.csv"),
        ({"path": "s3://bucket/part-?.parquet"}, "s3://bucket/part-?.parquet"),
        ({"path": "a@b/rows.csv"}, "a@b/rows.csv"),
        ({"sql": "postgresql://me:pass@db/shop?password=x", "table": "t"}, "table t of db/shop"),
    ],
)
def test_a_place_is_named_without_its_password(source: dict, place: str) -> None:
    assert Source(**source).place == place


def test_target_nobody_has_used_yet(tmp_path: Path) -> None:
    """Zero-shot: items and nothing else; with or without an empty interactions file."""
    domains = {"old": {"role": "source", "interactions": "rows.csv"}, "new": {"role": "target", "items": "items.csv"}}
    data = write_yaml(tmp_path / "shop", {"domains": domains})
    (data / "rows.csv").write_text(HEAD + "u,i,2025-03-01T10:00:00Z,\n")
    (data / "items.csv").write_text("item_id,text\ni1,a kettle\ni2,\n")
    without = tables(take_snapshot(tmp_path / "without", data), "new")
    assert [len(without[name]) for name in ("interactions", "items", "users")] == [0, 2, 0]
    domains["new"]["interactions"] = "none.csv"
    write_yaml(data, {"domains": domains})
    (data / "none.csv").write_text(HEAD)
    header_only = tables(take_snapshot(tmp_path / "with", data), "new")
    assert all(header_only[name].equals(without[name]) for name in without)


def test_order_without_a_clock(tmp_path: Path) -> None:
    domain = {"role": ["source", "target"], "interactions": "rows.tsv"}
    data = write_yaml(tmp_path / "shop", {"clock": "order", "protocol": "leave_one_out", "domains": {"shop": domain}})
    (data / "rows.tsv").write_text("user_id\titem_id\tposition\nu\tb\t1\nu\ta\t0\nu\tc\t2\n")
    taken = take_snapshot(tmp_path, data)
    rows = tables(taken, "shop")["interactions"]
    assert rows["item_id"].to_list() == ["a", "b", "c"]
    assert rows["timestamp"].diff().drop_nulls().to_list() == [timedelta(seconds=1)] * 2
    described = json.loads((taken / "dataset.json").read_text())
    assert (described["clock"], described["protocol"]) == ("order", "leave_one_out")
    assert described["pseudonyms"] == "keyed"
    assert described["domains"] == {"shop": {"role": ["source", "target"]}}


def test_naive_as_of_is_utc(tmp_path: Path) -> None:
    data = shop(tmp_path / "shop", HEAD + "u,i,2025-03-01T10:00:00Z,\n")
    moments = ("2025-03-02", "2025-03-02T00:00:00Z", "2025-03-02T05:00:00+05:00")
    one, two, three = (bytes_of(take_snapshot(tmp_path / str(n), data, as_of=m)) for n, m in enumerate(moments))
    assert one == two == three
