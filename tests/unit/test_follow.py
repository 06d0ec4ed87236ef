"""Following a run: rows in the graph's order, states a person understands, the failed stage's exit code."""

from __future__ import annotations

import shutil
from io import StringIO
from pathlib import Path

import pytest
import yaml
from pydantic import SecretStr
from rich.console import Console

from pipeline.exit_codes import BadConfiguration
from pipeline.follow.live import exit_code_of, stage_rows
from pipeline.follow.result import result_table
from pipeline.graph import load_graph
from pipeline.runs.attempt import write_json
from pipeline.runs.manifest import read_manifests
from pipeline.runs.workspace import record_path, workspace_path
from pipeline.settings import Settings
from pipeline.stack.credentials import airflow_login

GRAPH = load_graph(Path(__file__).resolve().parents[2] / "dvc.yaml")


@pytest.fixture
def settings(tmp_path):
    return Settings(home=tmp_path)


def opened(settings: Settings, run_id: str = "r") -> Path:
    workspace = workspace_path(settings, run_id)
    workspace.mkdir(parents=True)
    (workspace / "run.yaml").write_text(yaml.safe_dump({"run_id": run_id, "targets": ["a", "b"]}))
    return workspace


def task(name: str, state: str, index: int = -1) -> dict:
    return {"task_id": name, "map_index": index, "state": state, "duration": 1.0}


def test_before_it_is_opened_a_run_has_the_stages_that_need_no_target(settings):
    rows = stage_rows([task("open", "running")], "r", GRAPH, settings)
    assert [row["stage"] for row in rows][:3] == ["open", "snapshot", "validate"]
    assert rows[0]["state"] == "running"
    assert rows[1]["state"] == "waiting"


def test_mapped_tasks_are_named_by_their_target(settings):
    workspace = opened(settings)
    write_json(workspace / "run/manifests/prune@b.json", {"source": "cached", "message": "as before"})
    write_json(workspace / "run/manifests/register@a.json", {"source": "executed", "message": "hold: not better"})
    tasks = [
        task("target.prune", "success", 1),
        task("target.register", "skipped", 0),
        task("target.prune", "running", 0),
    ]
    rows = {row["stage"]: row for row in stage_rows(tasks, "r", GRAPH, settings)}
    assert rows["prune@b"]["state"] == "cached"
    assert rows["prune@b"]["found"] == "as before"
    assert rows["prune@a"]["state"] == "running"
    assert rows["register@a"]["state"] == "held"


@pytest.mark.parametrize("when", ["before the manifests", "among them"])
def test_a_run_that_is_closed_while_it_is_read_shows_its_record(settings, monkeypatch, when):
    workspace = opened(settings)
    write_json(workspace / "run/manifests/prune@b.json", {"source": "cached", "message": "as before"})
    shutil.copytree(workspace, record_path(settings, "r"))

    def closed_meanwhile(folder: Path) -> dict:
        if folder == workspace:
            shutil.rmtree(workspace)
            if when == "among them":
                raise FileNotFoundError(folder)
        return read_manifests(folder)

    monkeypatch.setattr("pipeline.follow.live.read_manifests", closed_meanwhile)
    rows = {row["stage"]: row for row in stage_rows([task("target.prune", "success", 1)], "r", GRAPH, settings)}
    assert (rows["prune@b"]["state"], rows["prune@b"]["found"]) == ("cached", "as before")


def test_a_failed_stage_shows_its_sentence_and_gives_the_exit_code(settings):
    workspace = opened(settings)
    attempts = workspace / "run" / "attempts" / "validate"
    write_json(attempts / "1.json", {"ended": "2026-01-01T00:00:00", "exit_code": 75, "message": "busy"})
    write_json(attempts / "2.json", {"ended": "2026-01-01T00:01:00", "exit_code": 65, "message": "12 rows broke"})
    rows = {row["stage"]: row for row in stage_rows([task("validate", "failed")], "r", GRAPH, settings)}
    assert rows["validate"]["found"] == "12 rows broke"
    assert exit_code_of("r", settings) == 65


def test_a_run_that_could_not_be_opened_gives_its_reason_too(settings):
    attempts = record_path(settings, "r") / "run" / "attempts" / "open"
    write_json(attempts / "1.json", {"ended": "2026-01-01T00:00:00", "exit_code": 78, "message": "no such branch"})
    assert stage_rows([task("open", "failed")], "r", GRAPH, settings)[0]["found"] == "no such branch"
    assert exit_code_of("r", settings) == 78


def test_the_result_table_fits_a_terminal_and_shows_every_interval():
    figure = {"value": 0.1234, "low": 0.1, "high": 0.15, "n": 50}
    model = {"name": "recent popularity", "kind": "baseline", "parameters": None, "bytes": None}
    served = {"name": "served", "kind": "model", "parameters": 12_345_678, "bytes": 98_765_432}
    both = {mode: {"ndcg10": figure, "hr10": figure} for mode in ("masked", "unmasked")}
    table = result_table({"target": "a", "protocol": "leave_one_out", "n": 50, "models": [model | both, served | both]})
    console = Console(width=80, record=True, file=StringIO())
    console.print(table)
    shown = console.export_text()
    assert shown.count("0.1234") == 8
    assert shown.count(".100–.150") == 8
    assert "98,765,432" in shown


def test_another_airflow_needs_a_login(settings):
    elsewhere = settings.model_copy(update={"airflow_api_url": "http://airflow.example"})
    with pytest.raises(BadConfiguration, match="WARMSTART_AIRFLOW_PASSWORD"):
        airflow_login(elsewhere)
    known = elsewhere.model_copy(update={"airflow_user": "me", "airflow_password": SecretStr("secret")})
    assert airflow_login(known) == ("me", "secret")
    assert "secret" not in repr(known)
