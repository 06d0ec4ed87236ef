"""The DAG `feedback`: hourly, in order, and no cause of a night by itself."""

from __future__ import annotations

import runpy
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from airflow.sdk.exceptions import AirflowSkipException

from pipeline.orchestration.run_lifecycle import open_words

CHECKOUT = Path(__file__).resolve().parents[2]
FORM = {"as_of": None, "data": None, "targets": None, "overrides": [], "git_ref": "HEAD", "promote": True}


@pytest.fixture(scope="module")
def feedback():
    return runpy.run_path(str(CHECKOUT / "dags" / "feedback.py"))


def test_it_closes_checks_and_watches_in_this_order(feedback):
    dag = feedback["dag"]
    assert dag.timetable.expression == "10 * * * *"
    assert dag.max_active_runs == 1
    assert [dag.get_task(name).words[:2] for name in ("close", "check", "drift")] == [
        ["feedback", "close"], ["feedback", "check"], ["feedback", "drift"],
    ]  # fmt: skip
    assert dag.get_task("close").downstream_task_ids == {"check"}
    assert dag.get_task("check").downstream_task_ids == {"drift"}


def test_an_hour_without_news_updates_no_asset_and_still_looks_at_drift(feedback, tmp_path, monkeypatch):
    python = tmp_path / "python"
    python.write_text("#!/bin/bash\nexit 99\n")
    python.chmod(0o755)
    monkeypatch.setenv("WARMSTART_PYTHON", str(python))
    dag = feedback["dag"]
    with pytest.raises(AirflowSkipException):  # Airflow records an update for a task that succeeded, not for this
        dag.get_task("close").execute({"run_id": "r"})
    assert [dag.get_task(name).trigger_rule for name in ("check", "drift")] == ["none_failed"] * 2


def test_its_asset_does_not_start_retrain(feedback, dag):
    assert feedback["FEEDBACK"].uri not in str(dag.timetable.asset_condition)
    assert [asset.uri for asset in feedback["dag"].get_task("close").outlets] == [feedback["FEEDBACK"].uri]


def test_the_reason_of_a_run_reaches_its_workspace():
    run = SimpleNamespace(run_id="r", run_type="manual", run_after=datetime(2026, 3, 10, tzinfo=UTC))
    words = open_words(run, {**FORM, "reason": "drift: harbour"})
    assert words[words.index("--reason") + 1] == "drift: harbour"
    assert "--reason" not in open_words(run, {**FORM, "reason": None})
