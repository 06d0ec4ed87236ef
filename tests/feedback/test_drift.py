"""Drift: seen when it is there, quiet when it is not, one run for one champion."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from psycopg.types.json import Jsonb

from pipeline.data.partitions import write_rows
from pipeline.data.schema import SCHEMAS
from pipeline.feedback import alarm
from pipeline.feedback.baseline import Baseline
from pipeline.feedback.close import close_feedback
from pipeline.feedback.drift import judge, measure_online, watch, wilson
from pipeline.feedback.psi import shift_of
from pipeline.settings import Settings
from tests.feedback.champions import promote
from tests.feedback.conftest import NOON, Send

AS_OF = datetime(2026, 1, 1, tzinfo=UTC)
ITEMS = [f"i{n:02d}" for n in range(40)]


def interactions(items: list[str], since: datetime, event: str = "click", users: int = 50) -> pl.DataFrame:
    n = len(items)
    at = [since + timedelta(minutes=13 * k) for k in range(n)]
    return pl.DataFrame(
        {
            "user_id": [f"{k % users:016x}" for k in range(n)], "item_id": items, "timestamp": at,
            "event": [event] * n, "value": pl.Series([None] * n, dtype=pl.Float32), "created_at": at,
        },
        schema_overrides={"timestamp": pl.Datetime("us", "UTC"), "created_at": pl.Datetime("us", "UTC")},
    )  # fmt: skip


def catalogue() -> pl.DataFrame:
    kinds = [["kind:lamp"] if n < 20 else ["kind:boat"] for n in range(40)]
    dates = pl.Series([None] * 40, dtype=pl.Datetime("us", "UTC"))
    return pl.DataFrame({"item_id": ITEMS, "text": ITEMS, "attributes": kinds, "available_from": dates})


def drawn(seed: int, n: int, shares: np.ndarray) -> list[str]:
    return [ITEMS[k] for k in np.random.default_rng(seed).choice(40, n, p=shares / shares.sum())]


POPULAR = 1.0 / np.arange(1, 41)


def baseline(hr10: float | None = 0.3) -> Baseline:
    rows = interactions(drawn(1, 3000, POPULAR), AS_OF - timedelta(days=28))
    return Baseline("harbour", "run 1", AS_OF, rows, catalogue(), hr10, 500)


def as_events(rows: pl.DataFrame, **more: object) -> pl.DataFrame:
    named = {"event_id": "e", "request_id": None, "context": None, **more}
    return rows.with_columns(pl.lit(value, pl.String).alias(name) for name, value in named.items())


def test_the_index_by_hand() -> None:
    """Shares 3/4 and 1/4 against 1/4 and 3/4, many rows: (0.5·ln 3) twice."""
    shift = shift_of("x", ["a"] * 30_000 + ["b"] * 10_000, ["a"] * 10_000 + ["b"] * 30_000)
    assert shift.psi == pytest.approx(np.log(3), abs=1e-3)
    assert shift.shifted


def test_chance_alone_is_no_drift() -> None:
    draws = np.random.default_rng(0)
    alarms = 0
    for _ in range(200):
        before, now = (draws.integers(0, 10, n).astype(str).tolist() for n in (500, 30))
        alarms += shift_of("x", before, now).shifted
    assert alarms <= 2


def test_the_same_world_is_quiet_and_another_is_not() -> None:
    same = as_events(interactions(drawn(2, 400, POPULAR), AS_OF))
    quiet = judge(baseline(), same, 7)
    assert [shift.feature for shift in quiet.shifts if shift.feature != "user activity" and shift.shifted] == []
    turned = as_events(interactions(drawn(3, 400, POPULAR[::-1]), AS_OF))
    found = judge(baseline(), turned, 7)
    assert any("item popularity moved" in reason for reason in found.reasons)
    assert any("item attributes moved" in reason for reason in found.reasons)


def test_online_figures_from_impressions(home: Settings, send: Send) -> None:
    for number in range(4):
        source = "model" if number < 3 else "popularity"
        for rank, item in enumerate(ITEMS[:11], 1):
            context = Jsonb({"rank": rank, "source": source})
            at = NOON + timedelta(minutes=number)
            send(f"i{number}-{rank}", "impression", at, item_id=item, request_id=f"r{number}", context=context)
    send("hit", request_id="r0", item_id=ITEMS[3])
    send("eleventh", request_id="r1", item_id=ITEMS[10])
    send("refused", "dislike", request_id="r2", item_id=ITEMS[0])
    send("taken", request_id="r3", item_id=ITEMS[0])
    close_feedback(home)
    from pipeline.data.feedback import read_feedback

    online = measure_online(read_feedback(home.home, "harbour").events)
    assert (online.requests, online.hr10, online.fallbacks) == (4, pytest.approx(1 / 3), 0.25)


def test_wilson_against_a_table() -> None:
    low, high = wilson(0, 0)
    assert (low, high) == (0.0, 1.0)
    low, high = wilson(50, 100)
    assert low == pytest.approx(1 - high)
    assert low == pytest.approx(0.3437, abs=1e-3)  # z = 3.29


def test_a_broken_promise_is_a_reason() -> None:
    shown = interactions(drawn(4, 3000, POPULAR), AS_OF, "impression")
    requests = as_events(shown).with_columns(request_id=pl.int_range(pl.len()).cast(pl.String))
    report = judge(baseline(hr10=0.3), requests, 7)
    assert report.reasons == ("HR@10 online is 0.000, promised were 0.300",)
    assert judge(baseline(hr10=None), requests, 7).reasons == ()


def test_the_report_and_one_run_a_champion(
    home: Settings, send: Send, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    valid = tmp_path / "valid"
    before = baseline()
    write_rows(before.interactions, valid / "harbour", "interactions", SCHEMAS["interactions"])
    write_rows(before.items, valid / "harbour", "items", SCHEMAS["items"])
    metrics = {"n": 500, "models": [{"name": "served", "masked": {"hr10": {"value": 0.3}}}]}
    promote(home, "harbour", "night 1", {"data/valid": valid}, metrics)
    for number, item in enumerate(drawn(3, 150, POPULAR[::-1])):
        send(f"e{number}", happened_at=NOON + timedelta(minutes=number), item_id=item, user_id=f"{number % 50:016x}")
    close_feedback(home)
    [report] = watch(home)
    assert (report.run_id, report.promised, report.events) == ("night 1", 0.3, 150)
    assert report.reasons
    written = json.loads((home.home / "feedback" / "drift" / "drift.json").read_text())
    assert written[0]["reasons"] == list(report.reasons)
    page = (home.home / "feedback" / "drift" / "index.html").read_text()
    assert "<svg" in page
    assert "<script" not in page

    started = []

    class Airflow:
        def __init__(self, *words: str) -> None: ...

        def trigger(self, conf: dict[str, str]) -> str:
            started.append(conf)
            return f"manual__{len(started)}"

    monkeypatch.setattr("pipeline.follow.airflow_api.AirflowApi", Airflow)
    monkeypatch.setattr("pipeline.stack.credentials.airflow_login", lambda settings: ("admin", "x"))
    assert "not now" in alarm.retrain_for(home, [report], NOON + timedelta(days=9))[0]
    assert started == []
    tonight = NOON + timedelta(hours=12)
    assert "started manual__1" in alarm.retrain_for(home, [report], tonight)[0]
    assert "already" in alarm.retrain_for(home, [report], tonight)[0]
    assert len(started) == 1
    assert started[0]["reason"].startswith("drift: harbour: ")
