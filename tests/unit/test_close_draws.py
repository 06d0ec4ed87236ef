"""Closing a run leaves its page in the record, told to MLflow; a page that cannot be drawn does not keep it open."""

from __future__ import annotations

import logging
import shutil

import pytest

from pipeline.runs import close
from pipeline.settings import Settings
from tests.run_record import make_record


class Mlflow:
    """As much of MLflow's REST API as closing a run needs."""

    def __init__(self) -> None:
        self.tags: dict[str, str] = {}
        self.status = ""

    def set_run_tag(self, run: str, name: str, value: str) -> None:
        self.tags[name] = value

    def end_run(self, run: str, status: str, ended_ms: int) -> None:
        self.status = status


@pytest.fixture
def closed(tmp_path, monkeypatch):
    """Closes a run whose workspace stands; the servers are stand-ins."""
    settings = Settings(home=tmp_path, airflow_api_url="http://airflow:1")
    mlflow = Mlflow()
    monkeypatch.setattr(close, "MlflowRest", lambda address: mlflow)
    monkeypatch.setattr(close, "_index", lambda settings, workspace: None)
    monkeypatch.setattr("pipeline.runs.tracking.parent_run", lambda rest, run: "parent")

    def run(**about):
        workspace = make_record(tmp_path / "runs" / "a-run", run_id="a-run", closed=False, **about)
        (workspace / "dvc.lock").unlink(missing_ok=True)
        finished = close.close_run(settings, "a-run")
        return finished, tmp_path / "records" / "a-run", mlflow

    return run


def test_the_page_stands_in_the_record_and_mlflow_knows_it(closed):
    finished, record, mlflow = closed()
    assert finished
    page = (record / "run.html").read_text()
    assert "Finished in" in page
    assert "/#/runs/parent" in page
    assert mlflow.tags["warmstart.run_page"] == "http://airflow:1/warmstart/runs/a-run/run.html"
    assert mlflow.status == "FINISHED"


def test_a_page_that_cannot_be_drawn_is_a_warning(closed, caplog, monkeypatch):
    def broken(*_):
        raise ValueError("no ink")

    monkeypatch.setattr("pipeline.report.page.write_page", broken)
    with caplog.at_level(logging.DEBUG):
        finished, record, _ = closed()
    assert finished
    assert (record / "run.yaml").exists()
    assert "could not be drawn" in caplog.text
    assert "no ink" in caplog.text
    assert any(entry.levelno == logging.DEBUG and entry.exc_info for entry in caplog.records)


def test_closing_again_keeps_the_page(closed, tmp_path):
    _, record, _ = closed()
    first = (record / "run.html").read_bytes()
    shutil.rmtree(tmp_path / "runs", ignore_errors=True)
    (tmp_path / "runs").mkdir()
    assert close.close_run(Settings(home=tmp_path), "a-run")
    assert (record / "run.html").read_bytes() == first
