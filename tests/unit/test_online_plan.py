"""What the online store lacks: decided from keys, clocks and digests alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from pipeline.data.schema import write_table
from pipeline.features import online_plan
from pipeline.features.online_plan import Plan, Table, chunks, from_micros, micros, settled_before
from pipeline.features.watermarks import Watermark

MOMENT = pl.Datetime("us", "UTC")
DAY = timedelta(days=1)
T0 = datetime(2025, 1, 1, tzinfo=UTC)


def table(folder: Path, rows: list[tuple[str, float, int]]) -> Table:
    """A feature table of (user, day it became known, value)."""
    frame = pl.DataFrame(
        {
            "user_id": [user for user, _, _ in rows],
            "value": [value for _, _, value in rows],
            "event_timestamp": [T0] * len(rows),
            "created_timestamp": [T0 + day * DAY for _, day, _ in rows],
        },
        schema={"user_id": pl.String, "value": pl.Int64, "event_timestamp": MOMENT, "created_timestamp": MOMENT},
    )
    path = folder / "view.parquet"
    write_table(frame, path)
    return Table(path, ("user_id",))


def filled(view: Table, day: float) -> Watermark:
    """The watermark a complete run up to `day` leaves."""
    as_of = T0 + day * DAY
    return Watermark(as_of, as_of, view.digest(settled_before(as_of)), view.digest(as_of))


ROWS = [("a", 0.5, 1), ("b", 0.5, 2), ("a", 2.5, 3), ("c", 3.5, 4), ("b", 9.0, 5)]


def plan(view: Table, mark: Watermark | None, as_of: datetime) -> Plan:
    return online_plan.plan(view, {"view": mark} if mark else {}, "view", as_of)


def values(view: Table, planned: Plan) -> list[int]:
    return view.read(planned.rows)["value"].to_list()


def test_the_first_run_pushes_the_newest_state_of_every_key(tmp_path):
    view = table(tmp_path, ROWS)
    planned = plan(view, None, T0 + 4 * DAY)
    assert planned.reason == "new" and planned.start is None
    assert values(view, planned) == [2, 3, 4], "b's younger state is not before as_of"


def test_the_next_run_pushes_what_became_known_since(tmp_path):
    view = table(tmp_path, ROWS)
    planned = plan(view, filled(view, 3), T0 + 10 * DAY)
    assert planned.reason == "continued" and planned.start == T0 + 3 * DAY
    assert values(view, planned) == [4, 5]


def test_a_late_row_is_pushed_although_it_happened_before_the_watermark(tmp_path):
    view = table(tmp_path, ROWS)  # every event happened on the first day
    mark = filled(view, 1)
    assert values(view, plan(view, mark, T0 + 4 * DAY)) == [3, 4]


def test_nothing_to_do_and_an_older_run(tmp_path):
    view = table(tmp_path, ROWS)
    mark = filled(view, 4)
    assert plan(view, mark, T0 + 4 * DAY).reason == "nothing to do"
    older = plan(view, mark, T0 + 3 * DAY)
    assert older.reason == "newer run was here" and older.nothing and not len(older.rows)


def test_a_newer_run_killed_at_another_view_keeps_an_older_one_away(tmp_path):
    view, killed = table(tmp_path, ROWS), {"other view": Watermark(T0 + 9 * DAY)}
    assert online_plan.plan(view, killed, "view", T0 + 4 * DAY).reason == "newer run was here"
    assert online_plan.plan(view, killed, "view", T0 + 9 * DAY).reason == "new"


def test_changed_history_is_not_hidden_by_the_watermark(tmp_path):
    mark = filled(table(tmp_path, ROWS), 4)
    changed = table(tmp_path, [("a", 0.5, 100), *ROWS[1:]])
    for as_of in (T0 + 4 * DAY, T0 + 10 * DAY):
        planned = plan(changed, mark, as_of)
        assert planned.reason == "history changed" and planned.start is None
    removed = table(tmp_path, ROWS[1:])
    assert plan(removed, mark, T0 + 10 * DAY).reason == "history changed"


def test_the_order_of_rows_is_no_change(tmp_path):
    mark = filled(table(tmp_path, ROWS), 4)
    assert plan(table(tmp_path, ROWS[::-1]), mark, T0 + 4 * DAY).reason == "nothing to do"


def test_the_open_day_may_change_without_being_history(tmp_path):
    noon = filled(table(tmp_path, ROWS), 3.6)
    later_that_day = table(tmp_path, [*ROWS[:3], ("c", 3.7, 7), ROWS[4]])
    planned = plan(later_that_day, noon, T0 + 4 * DAY)
    assert planned.reason == "continued" and planned.start == T0 + 3 * DAY
    assert values(later_that_day, planned) == [7]


def test_a_run_killed_before_its_first_chunk_starts_over(tmp_path):
    view = table(tmp_path, ROWS)
    assert plan(view, Watermark(T0 + 4 * DAY), T0 + 4 * DAY).start is None


def test_an_empty_view(tmp_path):
    view = table(tmp_path, [])
    planned = plan(view, None, T0)
    assert not len(planned.rows) and list(chunks(planned, 10)) == []
    assert view.ids(planned.rows).is_empty()


def test_chunks_are_bounded_and_never_split_a_moment():
    known_at = np.array([1, 1, 2, 3, 3, 3, 3, 4])
    planned = Plan("new", np.arange(8), known_at, None)
    cut = [known_at[chunk].tolist() for chunk in chunks(planned, 2)]
    assert cut == [[1, 1], [2, 3, 3, 3, 3], [4]]


def test_moments_survive_the_round_trip_to_the_microsecond():
    moment = datetime(2025, 3, 4, 5, 6, 7, 890123, tzinfo=UTC)
    assert from_micros(micros(moment)) == moment
    assert settled_before(moment) == datetime(2025, 3, 4, tzinfo=UTC)
