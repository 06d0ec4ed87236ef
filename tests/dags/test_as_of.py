"""One rule for as_of, whatever started the run: the scheduler, a person, an asset, a backfill."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace

import pendulum
import pytest
from airflow.sdk.exceptions import AirflowFailException

from pipeline.orchestration.run_lifecycle import open_words

FORM = {
    "as_of": None,
    "data": None,
    "targets": None,
    "overrides": [],
    "git_ref": "HEAD",
    "promote": True,
    "reason": None,
}


def as_of_of(run_type: str, run_after: datetime, **form) -> str:
    words = open_words(SimpleNamespace(run_id="r", run_type=run_type, run_after=run_after), {**FORM, **form})
    return words[words.index("--as-of") + 1]


@pytest.fixture(scope="module")
def timetable(dag):
    from airflow.serialization.serialized_objects import DagSerialization

    return DagSerialization.from_dict(DagSerialization.to_dict(dag)).timetable


def test_a_scheduled_run_learns_from_complete_days(timetable):
    from airflow.timetables.base import TimeRestriction

    day = pendulum.datetime(2026, 3, 10, 12)
    info = timetable.next_dagrun_info(
        last_automated_data_interval=None, restriction=TimeRestriction(earliest=day, latest=None, catchup=True)
    )
    assert info.run_after == pendulum.datetime(2026, 3, 11, 2)
    assert as_of_of("scheduled", info.run_after) == "2026-03-11T00:00:00Z"


def test_backfilled_runs_learn_up_to_their_own_day(dag):
    from airflow.serialization.serialized_objects import DagSerialization

    serialized = DagSerialization.from_dict(DagSerialization.to_dict(dag))
    infos = serialized.iter_dagrun_infos_between(pendulum.datetime(2026, 2, 1), pendulum.datetime(2026, 2, 3, 23))
    found = [as_of_of("backfill", info.run_after) for info in infos]
    assert found == [f"2026-02-0{day}T00:00:00Z" for day in (1, 2, 3)]


@pytest.mark.parametrize("run_type", ["manual", "asset_triggered"])
def test_manual_and_asset_runs_learn_up_to_the_last_midnight(run_type):
    assert as_of_of(run_type, datetime(2026, 3, 10, 23, 59, 59, tzinfo=UTC)) == "2026-03-10T00:00:00Z"


@pytest.mark.parametrize("run_type", ["manual", "scheduled", "asset_triggered", "backfill"])
@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("2025-12-24", "2025-12-24T00:00:00Z"),
        ("2025-12-24T18:30:00Z", "2025-12-24T18:30:00Z"),
        ("2025-12-24T18:30:00+02:00", "2025-12-24T16:30:00Z"),
    ],
)
def test_what_the_caller_says_wins(run_type, asked, expected):
    assert as_of_of(run_type, datetime(2026, 3, 10, tzinfo=UTC), as_of=asked) == expected


def test_a_midnight_in_another_zone_is_counted_in_utc():
    tokyo = pendulum.datetime(2026, 3, 10, 1, tz="Asia/Tokyo")  # 16:00 UTC of the day before
    assert as_of_of("manual", tokyo) == "2026-03-09T00:00:00Z"


def test_no_moment_is_refused_for_good_in_a_sentence():
    with pytest.raises(AirflowFailException, match="write it like 2026-01-31"):
        as_of_of("manual", datetime(2026, 3, 10, tzinfo=UTC), as_of="yesterday")
