"""The two protocols against a plain loop over users."""

from __future__ import annotations

import math

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data.indexing import index_rows, training_sequences
from pipeline.data.splits import (
    Cuts,
    drop_overlapping_users,
    holdout_table,
    split_leave_one_out,
    split_temporal,
    temporal_cuts,
)
from pipeline.exit_codes import DataBrokeContract
from tests.valid_data import EMPTY, interactions, items

MOMENT = pl.Datetime("us", "UTC")


def rows_of(pairs: list[tuple[int, int]]) -> pl.DataFrame:
    """Interactions of (user, time) pairs; the item is the position."""
    return pl.DataFrame(
        {
            "user_id": [f"u{user}" for user, _ in pairs],
            "item_id": [f"i{n:03d}" for n in range(len(pairs))],
            "timestamp": pl.Series([time for _, time in pairs], dtype=pl.Int64).cast(MOMENT),
            "event": ["view"] * len(pairs),
            "value": pl.Series([None] * len(pairs), dtype=pl.Float32),
            "created_at": pl.Series([time for _, time in pairs], dtype=pl.Int64).cast(MOMENT),
        },
        schema_overrides={"user_id": pl.String, "item_id": pl.String, "event": pl.String},
    ).sort("user_id", "timestamp", "item_id")


PAIRS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 100)), max_size=40)


@settings(max_examples=60, deadline=None)
@given(pairs=PAIRS, validation=st.integers(0, 90), test=st.integers(0, 30))
def test_temporal_is_the_first_of_each_period(pairs, validation, test):
    cuts = Cuts(validation=validation, test=validation + test)
    split = split_temporal(rows_of(pairs), cuts)
    expected, seen = [], set()
    for user, time in zip(split["user_id"], split["timestamp"].to_physical(), strict=True):
        period = "train" if time < cuts.validation else "validation" if time < cuts.test else "test"
        expected.append(period if period == "train" or (user, period) not in seen else "later")
        seen.add((user, period))
    assert split["part"].to_list() == expected


@settings(max_examples=60, deadline=None)
@given(pairs=PAIRS)
def test_leave_one_out_holds_out_the_last_two_of_three_or_more(pairs):
    split = split_leave_one_out(rows_of(pairs))
    for (_,), user in split.group_by("user_id"):
        parts = user["part"].to_list()
        enough = len(parts) >= 3
        assert parts == (["train"] * (len(parts) - 2) + ["validation", "test"] if enough else ["train"] * len(parts))


@settings(max_examples=60, deadline=None)
@given(pairs=PAIRS)
def test_history_is_everything_earlier_and_slices_follow_from_it(pairs):
    frame = rows_of(pairs)
    catalogue = frame.select("item_id").sort("item_id")
    rows = split_temporal(index_rows(frame, catalogue, "shop"), Cuts(50, 75))
    trained = set(rows.filter(pl.col("part") == "train")["item_index"])
    for held in holdout_table(rows, ["like", "view"]).iter_rows(named=True):
        user = rows.filter(pl.col("user_index") == held["user_index"])
        place = user["item_index"].to_list().index(held["item_index"])  # items are unique here
        assert held["history"] == user["item_index"].to_list()[:place]
        assert held["history_times"] == user["timestamp"].to_physical().to_list()[:place]
        assert held["history_events"] == [2] * place  # "view" is the second of the dataset's events
        assert all(math.isnan(value) for value in held["history_values"]) and len(held["history_values"]) == place
        assert held["user_slice"] == ("cold" if place == 0 else "few" if place <= 5 else "warm")
        assert held["item_slice"] == ("warm" if held["item_index"] in trained else "cold")


def test_cuts_span_all_domains_and_no_training_row_is_younger_than_a_held_out_one():
    early, late = rows_of([(0, 0), (0, 10)]), rows_of([(0, 90), (1, 99)])
    cuts = temporal_cuts({"a": early, "b": late}, 0.1, 0.2)
    assert cuts == Cuts(validation=70, test=80)
    assert temporal_cuts({"a": EMPTY}, 0.1, 0.2) is None


def test_oracle_rank_passes_through():
    frame = rows_of([(0, 1), (0, 80)]).with_columns(oracle_rank=pl.Series([4, 9], dtype=pl.Int32))
    rows = split_temporal(index_rows(frame, frame.select("item_id"), "shop"), Cuts(50, 75))
    assert holdout_table(rows, [])["oracle_rank"].to_list() == [9]


def test_overlapping_users_leave_the_sources_only_where_time_means_nothing():
    frames = {"source": rows_of([(0, 1), (1, 2)]), "target": rows_of([(1, 5), (2, 6)])}
    roles = {"source": ["source"], "target": ["source", "target"]}

    def left(when, protocol, clock):
        return drop_overlapping_users(frames, roles, when, protocol, clock)["source"]["user_id"].to_list()

    assert left("auto", "leave_one_out", "order") == ["u0"]
    assert left("auto", "leave_one_out", "real") == ["u0", "u1"]
    assert left("auto", "temporal", "order") == ["u0", "u1"]
    assert left("always", "temporal", "real") == ["u0"]
    assert left("never", "leave_one_out", "order") == ["u0", "u1"]
    kept = drop_overlapping_users(frames, roles, "always", "temporal", "real")["target"]
    assert kept["user_id"].to_list() == ["u1", "u2"]


def test_sequences_group_the_training_rows_by_user():
    frame = interactions(3, users=10, items=20, rows=120)
    rows = split_leave_one_out(index_rows(frame, items(20), "shop"))
    sequences = training_sequences(rows, ["purchase", "view"])
    assert sequences.n_users == rows["user_index"].n_unique()
    for user in range(sequences.n_users):
        own = rows.filter((pl.col("user_index") == user) & (pl.col("part") == "train"))
        found, times = sequences.of_user(user)
        assert found.tolist() == own["item_index"].to_list()
        assert times.tolist() == own["timestamp"].to_physical().to_list()
    assert set(sequences.events.tolist()) == {1, 2}


@settings(max_examples=60, deadline=None)
@given(order=st.permutations(range(6)))
def test_rows_are_indexed_in_order_however_they_come(order):
    frame = rows_of([(0, 1), (0, 1), (0, 2), (1, 0), (1, 3), (2, 0)])
    given_rows = frame[list(order)]
    assert (
        index_rows(given_rows, frame.select("item_id").sort("item_id"), "shop")
        .drop("item_index", "user_index")
        .equals(frame)
    )


def test_an_unknown_item_is_refused_with_an_example():
    frame = rows_of([(0, 1)])
    with pytest.raises(DataBrokeContract, match=r"shop/interactions has 1 rows .* 'i000'"):
        index_rows(frame, items(1, "other"), "shop")


def test_an_empty_domain_has_no_rows_of_anything():
    rows = split_leave_one_out(index_rows(EMPTY, items(3), "stall"))
    sequences = training_sequences(rows, [])
    assert sequences.n_users == 0 and sequences.offsets.tolist() == [0]
    assert holdout_table(rows, []).is_empty()
