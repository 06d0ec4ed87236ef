"""A table in partitions is the table: the same rows in the same order, the same bytes from the same rows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data.partitions import read_rows, write_rows
from pipeline.data.schema import EARLIEST, SORTED_BY, schema_of
from tests.stages_by_hand import bytes_of

MOMENT = pl.Datetime("us", "UTC")
JANUARY = datetime(2025, 1, 31, 23, 59, 59, 999_999, tzinfo=UTC)
moments = st.none() | st.sampled_from(
    [
        datetime(1, 1, 1, tzinfo=UTC),
        datetime(1969, 12, 31, tzinfo=UTC),
        EARLIEST - timedelta(microseconds=1),
        EARLIEST,
        JANUARY,
        JANUARY + timedelta(microseconds=1),
        datetime(2025, 12, 31, 23, 59, tzinfo=UTC),
        datetime(2026, 1, 1, tzinfo=UTC),
        datetime(9999, 12, 31, tzinfo=UTC),
    ]
)
ids = st.none() | st.sampled_from(["", "a", "b", "β", "c" * 20])


def table(rows: list[tuple[object, ...]]) -> pl.DataFrame:
    """Interactions in the canonical order; `event` tells rows apart that the order does not."""
    columns = {"user_id": pl.String, "item_id": pl.String, "timestamp": MOMENT}
    frame = pl.DataFrame(rows, schema=columns, orient="row").with_columns(
        event=pl.int_range(pl.len()).cast(pl.String), value=pl.lit(None, pl.Float32), created_at=pl.col("timestamp")
    )
    return frame.sort(SORTED_BY["interactions"], nulls_last=False, maintain_order=True)


def write(frame: pl.DataFrame, folder: Path) -> Path:
    write_rows(frame, folder, "interactions", schema_of("interactions", frame.columns))
    return folder


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(ids, ids, moments), max_size=40))
def test_what_is_read_is_what_was_written_in_its_order(rows):
    frame = table(rows)
    with TemporaryDirectory() as folder:
        write(frame, Path(folder))
        assert read_rows(Path(folder), "interactions").equals(frame)


def test_a_row_is_in_the_month_of_its_event_time(tmp_path):
    after = JANUARY + timedelta(microseconds=1)
    frame = table(
        [("u", "i", JANUARY), ("u", "j", after), ("u", "k", None), ("u", "l", datetime(1970, 1, 1, tzinfo=UTC))]
    )
    folder = write(frame, tmp_path) / "interactions"
    found = {path.stem: pl.read_parquet(path)["item_id"].to_list() for path in sorted(folder.iterdir())}
    assert found == {"2025-01": ["i"], "2025-02": ["j"], "undated": ["k", "l"]}


def test_a_later_night_leaves_the_files_of_the_months_before(tmp_path):
    old = [(user, item, JANUARY - timedelta(days=n)) for n, (user, item) in enumerate(["ax", "by", "az"] * 9)]
    night = [("a", "x", datetime(2025, 2, 3, tzinfo=UTC)), ("c", "x", datetime(2025, 2, 3, tzinfo=UTC))]
    before = bytes_of(write(table(old), tmp_path / "before"))
    after = bytes_of(write(table(old + night), tmp_path / "after"))
    assert set(after) - set(before) == {"interactions/2025-02.parquet"}
    assert before == {name: after[name] for name in before}


def test_no_rows_still_have_columns(tmp_path):
    empty = table([])
    read = read_rows(write(empty, tmp_path), "interactions")
    assert read.schema == empty.schema
    assert read.is_empty()


def test_a_table_that_is_not_canonical_is_kept_as_it_came(tmp_path):
    strange = pl.DataFrame({"user": ["b", "a"], "timestamp": ["yesterday", None]})
    write_rows(strange, tmp_path, "interactions")
    assert read_rows(tmp_path, "interactions").equals(strange)
