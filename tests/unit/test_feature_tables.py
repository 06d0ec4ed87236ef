"""Feature states against brute force: whatever arrives late, a state is what was known, and nothing more."""

from __future__ import annotations

import math

import polars as pl
import pytest

from pipeline.exit_codes import BadConfiguration
from pipeline.features.item_statistics import item_statistics
from pipeline.features.knowledge import DAY, bucket_width
from pipeline.features.user_history import SCHEMA, user_history
from pipeline.features.user_tables import user_activity, user_footprint, user_profile
from tests.valid_data import EMPTY, interactions

HALF_LIFE = 30.0
ROWS = interactions(5, users=12, items=40, rows=300, late_share=0.4)


def known(rows: pl.DataFrame, at: int, **keys: str) -> list[dict]:
    """What was known at `at` (microseconds), in the order in which it happened."""
    found = rows.filter(*(pl.col(name) == value for name, value in keys.items()))
    return [
        row | {"time": row["timestamp"]}
        for row in found.with_columns(pl.col("timestamp", "created_at").to_physical())
        .filter(pl.max_horizontal("timestamp", "created_at") <= at)
        .sort("timestamp", "item_id")
        .iter_rows(named=True)
    ]


def states(table: pl.DataFrame) -> list[dict]:
    """The rows of a table with clocks in microseconds."""
    return list(table.with_columns(pl.col("event_timestamp", "created_timestamp").to_physical()).iter_rows(named=True))


def mean(rows: list[dict]) -> float | None:
    values = [row["value"] for row in rows if row["value"] is not None]
    return sum(values) / len(values) if values else None


def check_clocks(state: dict, rows: list[dict]) -> None:
    assert state["event_timestamp"] == max(row["time"] for row in rows)
    assert state["created_timestamp"] >= state["event_timestamp"]


def test_activity_is_what_was_known_at_every_moment():
    table = states(user_activity(ROWS, "shop"))
    for state in table:
        rows = known(ROWS, state["created_timestamp"], user_id=state["user_id"])
        check_clocks(state, rows)
        assert state["n_interactions"] == len(rows)
        assert (state["first_time"], state["last_time"]) == (rows[0]["time"], rows[-1]["time"])
        assert state["mean_value"] == (None if mean(rows) is None else pytest.approx(mean(rows)))
    moments = {(row["user_id"], max(row["timestamp"], row["created_at"])) for row in ROWS.iter_rows(named=True)}
    assert len(table) == len(moments)


def test_footprint_counts_over_all_domains():
    other = interactions(6, users=12, items=10, rows=80, prefix="o", late_share=0.4)
    both = pl.concat([ROWS.with_columns(domain=pl.lit("a")), other.with_columns(domain=pl.lit("b"))])
    for state in states(user_footprint({"a": ROWS, "b": other})):
        rows = known(both, state["created_timestamp"], user_id=state["user_id"])
        check_clocks(state, rows)
        assert state["n_interactions"] == len(rows)
        assert state["n_domains"] == len({row["domain"] for row in rows})


def test_statistics_decay_and_never_look_ahead():
    since = int(ROWS["timestamp"].to_physical().min())
    table = states(item_statistics(ROWS, "shop", since, HALF_LIFE, DAY))
    for state in table:
        rows = known(ROWS, state["created_timestamp"], item_id=state["item_id"])
        check_clocks(state, rows)
        decayed = sum(0.5 ** ((rows[-1]["time"] - row["time"]) / DAY / HALF_LIFE) for row in rows)
        assert state["n_interactions"] == len(rows)
        assert state["recent_interactions"] == pytest.approx(decayed, abs=1e-4)
        assert state["mean_value"] == (None if mean(rows) is None else pytest.approx(mean(rows)))
    days = {(state["item_id"], state["created_timestamp"] // DAY) for state in table}
    assert len(days) == len(table), "one state a day"


@pytest.mark.parametrize("block", [1, 50, 10_000])
@pytest.mark.parametrize("length", [1, 3, 50])
def test_history_is_the_newest_of_what_was_known_in_any_block_size(length: int, block: int):
    parts = list(user_history(ROWS, "shop", length, DAY, block))
    assert (len(parts) == 1) == (block == 10_000)
    table = states(pl.concat([pl.DataFrame(pl.from_arrow(part)) for part in parts]))
    for state in table:
        rows = known(ROWS, state["created_timestamp"], user_id=state["user_id"])
        check_clocks(state, rows)
        assert state["item_ids"] == [row["item_id"] for row in rows][-length:]
        assert state["times"] == [row["time"] for row in rows][-length:]
    assert {state["user_id"] for state in table} == set(ROWS["user_id"])


def test_an_interaction_is_not_known_before_it_happens():
    wrong_clock = ROWS.with_columns(created_at=pl.col("timestamp") - pl.duration(days=3))
    for table in (user_activity(wrong_clock, "shop"), user_footprint({"shop": wrong_clock})):
        assert (table["created_timestamp"] == table["event_timestamp"]).all()


def test_profile_joins_what_all_domains_were_told():
    schema = {"user_id": pl.String, "attributes": pl.List(pl.String)}
    shop = pl.DataFrame({"user_id": ["b", "a"], "attributes": [["y", "x"], None]}, schema=schema)
    stall = pl.DataFrame({"user_id": ["b"], "attributes": [["z", "x"]]}, schema=schema)
    table = user_profile({"shop": shop, "stall": stall})
    assert table["user_id"].to_list() == ["a", "b"]
    assert table["attributes"].to_list() == [[], ["x", "y", "z"]]
    assert user_profile({"shop": shop.clear()}).is_empty()


def test_buckets_are_days_and_finer_where_the_data_is_short():
    day = [EMPTY["timestamp"], ROWS["timestamp"]]
    assert bucket_width(day) == DAY
    assert bucket_width([EMPTY["timestamp"]]) == DAY
    seconds = pl.Series([0, 100_000_000]).cast(pl.Datetime("us", "UTC"))
    assert bucket_width([seconds]) == 1_000_000


def test_nothing_gives_empty_tables_of_the_same_shape():
    activity, filled = user_activity(EMPTY, "stall"), user_activity(ROWS, "shop")
    assert activity.schema == filled.schema and activity.is_empty()
    assert item_statistics(EMPTY, "stall", 0, 30, DAY).schema == item_statistics(ROWS, "shop", 0, 30, DAY).schema
    assert list(user_history(EMPTY, "stall", 5, DAY)) == []
    assert next(user_history(ROWS, "shop", 5, DAY)).schema == SCHEMA


def test_a_half_life_too_short_for_the_data_is_refused_with_the_least_that_works():
    since = int(ROWS["timestamp"].to_physical().min())
    with pytest.raises(BadConfiguration, match=r"half_life_days is 0.1 .* set it to 0\.2 or more"):
        item_statistics(ROWS, "shop", since, 0.1, DAY)
    assert math.isfinite(item_statistics(ROWS, "shop", since, 0.25, DAY)["recent_interactions"].max())
