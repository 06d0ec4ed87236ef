"""Feast's point-in-time join, as this project uses it, against a brute-force oracle: late rows, ties, order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from pipeline.features.store import open_store, point_in_time_join, project_name
from pipeline.features.tables import write_feature_tables
from tests.valid_data import AS_OF, START, interactions, users

MOMENT = pl.Datetime("us", "UTC")
N_ROWS = 1500


@pytest.fixture(scope="module")
def shop() -> pl.DataFrame:
    return interactions(11, users=30, items=25, rows=600, late_share=0.4)


@pytest.fixture(scope="module")
def store(shop, tmp_path_factory):
    folder = tmp_path_factory.mktemp("features")
    write_feature_tables(folder, {"shop": shop}, {"shop": users(shop)}, history_length=5, half_life_days=30)
    return open_store(folder, "oracle", str(folder / "registry.db"))


def moments(rng: np.random.Generator, shop: pl.DataFrame, count: int) -> pl.Series:
    """Random moments, half of them within a microsecond of when something happened or became known."""
    anywhere = rng.integers(int(START.timestamp() * 1e6) - 10**12, int(AS_OF.timestamp() * 1e6), count)
    clocks = pl.concat([shop["timestamp"], shop["created_at"]]).to_physical().to_numpy()
    near = rng.choice(clocks, count) + rng.integers(-1, 2, count)
    return pl.Series(np.where(rng.random(count) < 0.5, anywhere, near)).cast(MOMENT)


def known(shop: pl.DataFrame, at, **keys: str) -> pl.DataFrame:
    """The interactions of the keys that had happened and were known at `at`."""
    return shop.filter(
        *(pl.col(name) == value for name, value in keys.items()),
        pl.col("timestamp") <= at,
        pl.col("created_at") <= at,
    )


def test_users_are_known_as_they_were(store, shop):
    rng = np.random.default_rng(0)
    asked = pl.DataFrame(
        {
            # some users are known nowhere
            "user_id": [f"u{n:03d}" for n in rng.integers(0, 40, N_ROWS)],
            "domain": ["shop"] * N_ROWS,
            "event_timestamp": moments(rng, shop, N_ROWS),
        }
    )
    asked = pl.concat([asked, asked.head(50)])  # the same question twice
    answer = point_in_time_join(store, asked, "activity")
    assert answer.select(asked.columns).equals(asked), "one answer a question, in order"
    for row in answer.iter_rows(named=True):
        rows = known(shop, row["event_timestamp"], user_id=row["user_id"])
        if rows.is_empty():
            assert row["n_interactions"] is None
            continue
        assert row["n_interactions"] == rows.height
        assert row["last_time"] == rows["timestamp"].to_physical().max()
        assert row["mean_value"] == pytest.approx(rows["value"].mean())


def test_nobody_is_dropped_and_own_rows_are_not_seen(store, shop):
    starts = shop.group_by("user_id").agg(pl.col("timestamp").min().alias("event_timestamp"))
    before = starts.with_columns(pl.col("event_timestamp") - pl.duration(microseconds=1), domain=pl.lit("shop"))
    answer = point_in_time_join(store, before, "activity")
    assert answer.height == before.height
    assert answer["n_interactions"].null_count() == before.height, "nothing is known before the first interaction"


def test_statistics_are_never_younger_and_at_most_a_day_older(store, shop):
    rng = np.random.default_rng(1)
    asked = pl.DataFrame(
        {
            "item_id": [f"i{n:03d}" for n in rng.integers(0, 25, 500)],
            "domain": ["shop"] * 500,
            "event_timestamp": moments(rng, shop, 500),
        }
    )
    for row in point_in_time_join(store, asked, "items").iter_rows(named=True):
        now = row["event_timestamp"]
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
        found = row["n_interactions"] or 0
        assert known(shop, midnight, item_id=row["item_id"]).height <= found
        assert found <= known(shop, now, item_id=row["item_id"]).height


def test_a_join_that_loses_rows_is_noticed(store, shop, monkeypatch):
    asked = shop.select("user_id", event_timestamp="timestamp", domain=pl.lit("shop")).head(5)
    original = store.get_historical_features

    class Lossy:
        def __init__(self, job):
            self.job = job

        def to_arrow(self):
            return self.job.to_arrow()[1:]

    monkeypatch.setattr(store, "get_historical_features", lambda **given: Lossy(original(**given)))
    with pytest.raises(RuntimeError, match="asked for 5 rows and gave 4"):
        point_in_time_join(store, asked, "activity")


def test_the_repository_loads_by_hand(store, tmp_path: Path):
    """`feature_repo/definitions.py` is what Feast's own command line finds."""
    from feast import FeatureService, FeatureView

    import feature_repo.definitions as found

    views = [value for value in vars(found).values() if isinstance(value, FeatureView)]
    services = [value for value in vars(found).values() if isinstance(value, FeatureService)]
    assert len(views) == 5 and len(services) == 4


def test_projects_fit_what_feast_and_postgres_allow():
    assert project_name("world-small") == "world_small"
    long = project_name("a very long name of a dataset that nobody should ever use")
    assert len(f"{long}_item_statistics_ek") <= 63
    assert project_name("日本") != project_name("中国")
    assert project_name("日本").isascii() and project_name("日本")[0].isalnum()
