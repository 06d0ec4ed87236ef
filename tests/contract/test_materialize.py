"""The online store in a real PostgreSQL: the same as offline, resumable, forward only, never hiding a change."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import psycopg
import pytest

from pipeline.exit_codes import PassingFault
from pipeline.features import online_store
from pipeline.features.online_store import open_online_store
from pipeline.features.store import open_store, point_in_time_join, project_name
from pipeline.features.tables import write_feature_tables
from pipeline.runs.contract import Job, Summary
from pipeline.settings import settings
from pipeline.stages import materialize
from tests.postgres_fixture import running_postgres
from tests.valid_data import AS_OF, EMPTY, interactions, users

MIDDLE = datetime(2025, 4, 1, tzinfo=UTC)
MOMENT = pl.Datetime("us", "UTC")
SHOP = interactions(21, users=20, items=15, rows=250, late_share=0.4)


@pytest.fixture(scope="module", autouse=True)
def postgres(tmp_path_factory) -> Iterator[str]:
    with running_postgres(tmp_path_factory.mktemp("postgres")) as url:
        yield url


def tables(folder: Path, name: str, rows: pl.DataFrame = SHOP, until: datetime = AS_OF) -> Path:
    """Feature tables of a dataset `name` as a run of `until` would see them."""
    folder.mkdir(parents=True)
    seen = rows.filter(pl.col("timestamp") < until, pl.col("created_at") < until)
    write_feature_tables(folder, {"shop": seen, "stall": EMPTY}, {"shop": users(SHOP)}, 5, 30.0)
    (folder / "dataset.json").write_text(json.dumps({"name": name, "domains": ["shop", "stall"], "definitions": {}}))
    return folder


def run(features: Path, out: Path, as_of: datetime = AS_OF, chunk_rows: int = 50_000) -> tuple[Summary, dict]:
    """Run the stage; returns its summary and receipt."""
    out.mkdir(parents=True)
    params = materialize.Params(as_of=as_of, chunk_rows=chunk_rows)
    inputs, outputs = {"data/features": features}, {"receipts/materialize": out}
    summary = materialize.run(inputs, outputs, params, Job(scratch=out))
    return summary, json.loads((out / "receipt.json").read_text())


def online(features: Path, name: str, frame: pl.DataFrame) -> pl.DataFrame:
    """What serving gets for `frame` (user_id, domain)."""
    store = open_online_store(settings(), features, project_name(name))
    answer = store.get_online_features(store.get_feature_service("serving"), frame.to_dicts(), full_feature_names=True)
    return pl.DataFrame(answer.to_dict(), strict=False).select(pl.exclude("user_id", "domain"))


def offline(features: Path, frame: pl.DataFrame, at: datetime) -> pl.DataFrame:
    """What was known of `frame` just before `at`, from the tables."""
    store = open_store(features, "offline", str(features / "registry.db"))
    asked = frame.with_columns(event_timestamp=pl.lit(at - timedelta(microseconds=1)).cast(MOMENT))
    return point_in_time_join(store, asked, "serving", full_names=True).select(
        pl.exclude("user_id", "domain", "event_timestamp")
    )


def everyone(*more: str) -> pl.DataFrame:
    """Every user of the shop, and `more`."""
    return pl.DataFrame({"user_id": [*SHOP["user_id"].unique().sort(), *more], "domain": "shop"})


def assert_same(features: Path, name: str, at: datetime) -> None:
    """Online equals offline for every user, also one nobody knows."""
    asked = everyone("nobody")
    there, here = online(features, name, asked), offline(features, asked, at)
    assert set(there.columns) == set(here.columns)
    for column in here.columns:
        assert there[column].to_list() == here[column].to_list(), column


def test_online_equals_offline_night_after_night_and_in_small_chunks(tmp_path):
    first = tables(tmp_path / "first", "nights", until=MIDDLE)
    run(first, tmp_path / "r1", MIDDLE, chunk_rows=3)
    assert_same(first, "nights", MIDDLE)
    second = tables(tmp_path / "second", "nights")
    _, receipt = run(second, tmp_path / "r2")
    assert_same(second, "nights", AS_OF)
    activity = receipt["views"]["user_activity"]
    assert activity["reason"] == "continued" and activity["start"] == MIDDLE.isoformat()
    assert receipt["watermarks"]["user_activity"] == AS_OF.isoformat()


def test_repeating_it_does_nothing_and_an_older_run_overwrites_nothing(tmp_path, monkeypatch):
    features = tables(tmp_path / "features", "repeat")
    run(features, tmp_path / "r1")

    def untouched(*_):
        raise AssertionError("Feast was opened")

    with monkeypatch.context() as patch:
        patch.setattr(materialize, "open_online_store", untouched)
        again, receipt = run(features, tmp_path / "r2")
        assert again.metrics["states_pushed"] == 0 and "already filled" in again.found
        older_tables = tables(tmp_path / "older", "repeat", until=MIDDLE)
        older, _ = run(older_tables, tmp_path / "r3", MIDDLE)
        assert "this one is older and pushed nothing" in older.found
        _, repeated = run(features, tmp_path / "r4")
    assert repeated == receipt, "a receipt depends on the state alone"
    assert_same(features, "repeat", AS_OF)


def test_a_killed_run_goes_on_where_it_was(tmp_path, monkeypatch):
    features = tables(tmp_path / "features", "killed")
    pushed: list[int] = []

    def dies(store, view, rows, at_most):
        if view == "user_activity" and len(pushed) >= 2:
            raise KeyboardInterrupt
        pushed.extend([rows.height] if view == "user_activity" else [])
        online_store.push(store, view, rows, at_most)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(materialize, "push", dies)
        run(features, tmp_path / "r1", chunk_rows=5)
    older_tables = tables(tmp_path / "older", "killed", until=MIDDLE)
    older, _ = run(older_tables, tmp_path / "r2", MIDDLE)
    assert "pushed nothing" in older.found and older.metrics["states_pushed"] == 0
    _, receipt = run(features, tmp_path / "r3", chunk_rows=5)
    assert receipt["views"]["user_profile"]["reason"] == "nothing to do"
    assert receipt["views"]["user_activity"]["reason"] == "continued"
    assert_same(features, "killed", AS_OF)


def test_a_removed_user_and_a_corrected_value_are_not_hidden_by_the_watermark(tmp_path):
    run(tables(tmp_path / "before", "changed"), tmp_path / "r1")
    gone = SHOP["user_id"][0]
    corrected = SHOP.filter(pl.col("user_id") != gone).with_columns(value=pl.lit(4, pl.Float32))
    after = tables(tmp_path / "after", "changed", corrected)
    _, receipt = run(after, tmp_path / "r2")
    assert receipt["views"]["user_activity"]["reason"] == "history changed"
    assert_same(after, "changed", AS_OF)
    answer = online(after, "changed", pl.DataFrame({"user_id": [gone], "domain": ["shop"]}))
    assert answer["user_activity__n_interactions"].to_list() == [None]


def test_datasets_do_not_touch_each_other(tmp_path):
    mine, yours = tables(tmp_path / "mine", "mine"), tables(tmp_path / "yours", "yours", SHOP.head(40))
    run(mine, tmp_path / "r1")
    run(yours, tmp_path / "r2")
    assert_same(mine, "mine", AS_OF)
    assert_same(yours, "yours", AS_OF)


def test_the_ledger_never_moves_backwards(postgres):
    from pipeline.features.watermarks import Watermark, open_ledger

    with open_ledger(settings().postgres_url("warmstart"), "postgres", "ledger") as ledger:
        assert ledger.write("view", Watermark(AS_OF, AS_OF, "s", "p"))
        assert not ledger.write("view", Watermark(MIDDLE, MIDDLE, "s", "p"))
        assert ledger.read() == {"view": Watermark(AS_OF, AS_OF, "s", "p")}


def test_two_runs_at_once_take_turns(monkeypatch, postgres):
    from pipeline.features import watermarks

    monkeypatch.setattr(watermarks, "LOCK_TIMEOUT", "200ms")
    url = settings().postgres_url("warmstart")
    with watermarks.open_ledger(url, "postgres", "both"):
        with (
            pytest.raises(PassingFault, match="another run"),
            watermarks.open_ledger(url, "postgres", "both"),
        ):
            pass
        with watermarks.open_ledger(url, "postgres", "another dataset"):
            pass


def test_no_database_is_a_passing_fault_with_what_to_do(tmp_path, monkeypatch):
    features = tables(tmp_path / "features", "away")
    monkeypatch.setenv("WARMSTART_DATABASE_URL", f"postgresql://postgres@/postgres?host={tmp_path}")
    settings.cache_clear()
    with pytest.raises(PassingFault, match=r"does not answer.*warmstart up"):
        run(features, tmp_path / "receipt")
    monkeypatch.undo()
    settings.cache_clear()
    with psycopg.connect(settings().postgres_url("warmstart")):
        pass
