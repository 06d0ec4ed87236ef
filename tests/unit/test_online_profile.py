"""One user's or item's numbers online are those of the tables that models are trained on."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.features import model_inputs
from pipeline.features.knowledge import DAY, MOMENT
from pipeline.features.model_inputs import ITEM_FEATURES, profile_feature_names
from pipeline.features.online_profile import at_sequence_start, item_vector, profile_vector
from pipeline.features.user_tables import user_activity, user_footprint

NOW = 1_750_000_000_000_000
DOMAINS = ["shop", "stall", "market"]
moments = st.integers(NOW - 3000 * DAY, NOW + 40 * DAY)
counts = st.integers(1, 10**7)
values = st.none() | st.floats(-1e4, 1e4)
scale = st.fixed_dictionaries({"mean": st.floats(-10, 10), "spread": st.floats(0.01, 100)})
attributes = st.none() | st.lists(st.text(min_size=1, max_size=4), max_size=4)
footprints = st.none() | st.fixed_dictionaries(
    {"n_interactions": counts, "n_domains": st.integers(1, 3), "first_time": moments, "last_time": moments}
)
activities = st.none() | st.fixed_dictionaries({"n_interactions": counts, "mean_value": values, "last_time": moments})
INTS = {"n_interactions": pl.Int64, "n_domains": pl.Int64, "first_time": pl.Int64, "last_time": pl.Int64}


def row_of(features: dict | None, **schema: pl.DataType) -> pl.DataFrame:
    """What Feast gives offline for one entity."""
    row = {name: (features or {}).get(name) for name in schema}
    return pl.DataFrame([row], schema=schema).with_columns(event_timestamp=pl.lit(NOW, pl.Int64).cast(MOMENT))


@settings(max_examples=300, deadline=None)
@given(
    attributes, footprints, st.fixed_dictionaries(dict.fromkeys(DOMAINS, activities)),
    st.fixed_dictionaries(dict.fromkeys(DOMAINS, scale)),
)  # fmt: skip
def test_a_profile_online_is_that_of_the_tables(attributes, footprint, activity, scales):
    names = profile_feature_names(DOMAINS, "real")
    known = row_of({"attributes": attributes} | (footprint or {}), attributes=pl.List(pl.String), **INTS)
    answers = {
        name: row_of(row, n_interactions=pl.Int64, mean_value=pl.Float64, last_time=pl.Int64)
        for name, row in activity.items()
    }
    table = model_inputs.profile_features(known, answers, scales, names)
    online = profile_vector(names, {"attributes": attributes}, footprint, activity, scales, NOW)
    assert online.dtype == np.float32
    np.testing.assert_array_equal(online, table.to_numpy()[0])
    # a model may read fewer, in another order
    some = names[::-2]
    np.testing.assert_array_equal(
        profile_vector(some, {"attributes": attributes}, footprint, activity, scales, NOW), online[::-2]
    )


@settings(max_examples=300, deadline=None)
@given(
    st.none()
    | st.fixed_dictionaries(
        {
            "n_interactions": counts, "recent_interactions": st.floats(0, 1e6),
            "mean_value": values, "last_time": moments,
        }
    ),
    st.none() | moments, scale, st.floats(0.5, 1000),
)  # fmt: skip
def test_an_item_online_is_that_of_the_tables(statistics, available_from, scale, half_life):
    known = row_of(
        statistics, n_interactions=pl.Int64, recent_interactions=pl.Float64, mean_value=pl.Float64, last_time=pl.Int64
    )
    since = pl.Series([available_from], dtype=pl.Int64).cast(MOMENT)
    table = model_inputs.item_features(known, since, scale, half_life)
    online = item_vector(ITEM_FEATURES, statistics, available_from, scale, half_life, NOW)
    np.testing.assert_array_equal(online, table.to_numpy()[0])


def test_nobody_is_known_to_be_nobody():
    scales = {name: {"mean": 0.0, "spread": 1.0} for name in DOMAINS}
    names = profile_feature_names(DOMAINS, "real")
    nothing = profile_vector(names, None, None, {}, scales, NOW)
    # as Feast answers online for an unknown entity: every feature there, and None
    empty = {"n_interactions": None, "n_domains": None, "first_time": None, "last_time": None, "mean_value": None}
    also = profile_vector(names, {"attributes": None}, empty, dict.fromkeys(DOMAINS, empty), scales, NOW)
    assert not nothing.any()
    np.testing.assert_array_equal(nothing, also)
    new = item_vector(ITEM_FEATURES, None, NOW, scales["shop"], 30, NOW)
    assert dict(zip(ITEM_FEATURES, new.tolist(), strict=True)) == dict.fromkeys(ITEM_FEATURES, 0.0) | {"has_age": 1.0}


def test_a_feature_that_is_not_made_is_named():
    with pytest.raises(ValueError, match="profile features visits, which are not made online"):
        profile_vector(["has_attributes", "visits"], None, None, {}, {}, NOW)
    with pytest.raises(ValueError, match="item features novelty"):
        item_vector(["novelty"], None, None, {"mean": 0.0, "spread": 1.0}, 30, NOW)


def interactions(*rows: tuple[str, int, float | None]) -> pl.DataFrame:
    """(user, day, value)."""
    moments = [datetime.fromtimestamp(day * 86_400, UTC) for _, day, _ in rows]
    return pl.DataFrame(
        {
            "user_id": [user for user, _, _ in rows],
            "item_id": [f"i{n}" for n in range(len(rows))],
            "timestamp": moments,
            "created_at": moments,
            "value": [value for _, _, value in rows],
        },
        schema_overrides={"timestamp": MOMENT, "created_at": MOMENT, "value": pl.Float32},
    )


def test_the_profile_is_that_of_the_moment_the_sequence_began():
    """As training saw it: a user's history in the domain is in the sequence, not in the profile."""
    rows = {
        "shop": interactions(("ann", 10, 3.0), ("ann", 20, 5.0), ("bob", 5, None)),
        "stall": interactions(("ann", 30, 2.0), ("ann", 40, 4.0)),
    }
    now, scales = 50 * DAY, {"shop": {"mean": 3.0, "spread": 2.0}, "stall": {"mean": 0.0, "spread": 1.0}}
    newest = {
        name: user_activity(frame, name).filter(user_id="ann").row(-1, named=True) for name, frame in rows.items()
    }
    opened = at_sequence_start("stall", newest, now)
    assert opened.now == 30 * DAY - 1
    assert set(opened.activity) == {"shop"}
    names = profile_feature_names(list(rows), "real")

    # what the tables knew then
    began = pl.lit(30 * DAY - 1, pl.Int64).cast(MOMENT)
    then = {name: frame.filter(pl.col("timestamp") <= began) for name, frame in rows.items()}
    footprint = user_footprint(then).filter(user_id="ann").tail(1)
    known = footprint.with_columns(attributes=pl.lit([], pl.List(pl.String)), event_timestamp=began)
    answers = {
        "shop": user_activity(then["shop"], "shop").filter(user_id="ann").tail(1),
        "stall": row_of(None, n_interactions=pl.Int64, mean_value=pl.Float64, last_time=pl.Int64),
    }
    answers = {name: answer.with_columns(event_timestamp=began) for name, answer in answers.items()}
    expected = model_inputs.profile_features(known, answers, scales, names).to_numpy()[0]
    online = profile_vector(names, {"attributes": []}, opened.footprint, opened.activity, scales, opened.now)
    np.testing.assert_array_equal(online, expected)


def test_where_a_sequence_begins():
    row = {"n_interactions": 2, "mean_value": None, "first_time": 100, "last_time": 900}
    assert at_sequence_start("shop", {}, 1000).now == 1000
    assert at_sequence_start("shop", {"shop": row}, 1000).now == 99
    assert at_sequence_start("shop", {"shop": row}, 1000, first_time=300).now == 99
    assert at_sequence_start("shop", {"shop": None}, 1000, first_time=300).now == 299
    assert at_sequence_start("shop", {"shop": {"n_interactions": None, "first_time": None}}, 1000).footprint is None
    both = at_sequence_start("market", {"shop": row, "stall": row | {"first_time": 50, "n_interactions": 5}}, 1000)
    assert both.footprint == {"n_interactions": 7, "n_domains": 2, "first_time": 50, "last_time": 900}
    # came to the shop only after the stall
    later = at_sequence_start("stall", {"shop": row, "stall": row | {"first_time": 50}}, 1000)
    assert (later.footprint, later.activity, later.now) == (None, {}, 49)
