"""Every attempt at a stage leaves a manifest: executed, restored, failed, killed, or finished by its retry."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import polars as pl
import psutil
import pytest
import yaml

from pipeline.exit_codes import PassingFault
from pipeline.graph import load_graph
from pipeline.runs import close, manifest_store
from pipeline.runs.attempt import ATTEMPT_VARIABLE, TASK_VARIABLE
from pipeline.runs.attempt_end import bury_killed
from pipeline.runs.manifest import read_every_attempt, read_manifests
from pipeline.runs.reproduce import reproduce_stage
from pipeline.runs.workspace import RunRequest, open_workspace, record_path
from pipeline.settings import CHECKOUT, Settings

# How the stage behaves in a workspace whose file `mood` says so.
MOODY = """

_as_it_should = run


def run(inputs, outputs, params, job):
    import os, time
    mood = Path("mood").read_text() if Path("mood").exists() else ""
    if mood == "dies":
        os.kill(os.getpid(), 9)
    if mood == "sleeps":
        Path("asleep").touch()
        time.sleep(120)
    return _as_it_should(inputs, outputs, params, job)
"""


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A checkout of this commit whose snapshot has moods."""
    folder = tmp_path_factory.mktemp("checkout") / "clone"
    subprocess.run(["git", "clone", "--quiet", CHECKOUT, folder], check=True)
    stage = folder / "pipeline" / "stages" / "snapshot.py"
    stage.write_text(stage.read_text() + MOODY)
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", "-C", folder, *who, "commit", "--quiet", "-am", "moods"], check=True)
    return folder


@pytest.fixture
def home(tmp_path) -> Path:
    return tmp_path / "home"


@pytest.fixture(autouse=True)
def mlflow(monkeypatch) -> list[str]:
    """The stages that were tracked; there is no server here."""
    tracked: list[str] = []

    def track(workspace: Path, manifest: dict[str, Any]) -> str:
        tracked.append(manifest["stage"])
        return f"mlflow-{len(tracked)}"

    monkeypatch.setattr("pipeline.runs.attempt_end.track_stage", track)
    monkeypatch.delenv(TASK_VARIABLE, raising=False)
    monkeypatch.delenv(ATTEMPT_VARIABLE, raising=False)
    return tracked


def opened(clone: Path, home: Path, run_id: str = "r", **changes: Any) -> Path:
    from pipeline.runs.as_of import parse_as_of

    as_of = parse_as_of(changes.pop("as_of", "2026-01-01"))
    request = RunRequest(run_id, **{"as_of": as_of, "data": "world:tiny", "origin": {"origin": "manual"}, **changes})
    return open_workspace(Settings(home=home), request, clone)


def kinds(workspace: Path) -> list[tuple[str, int, int]]:
    """(source, exit code, try) of every attempt."""
    return [(m["source"], m["exit_code"], m["try"]) for m in read_every_attempt(workspace)]


def test_a_manifest_tells_what_went_in_and_what_came_out(clone, home, monkeypatch):
    task = {
        "dag_id": "retrain",
        "run_id": "r",
        "task_id": "snapshot",
        "map_index": -1,
        "try_number": 3,
        "url": "http://a",
    }
    workspace = opened(clone, home)
    monkeypatch.setenv(TASK_VARIABLE, json.dumps(task))
    assert reproduce_stage(workspace, "snapshot", home) == 0
    monkeypatch.delenv(TASK_VARIABLE)
    assert reproduce_stage(workspace, "validate", home) == 0
    snapshot, validate = (read_manifests(workspace)[name] for name in ("snapshot", "validate"))
    lock = yaml.safe_load((workspace / "dvc.lock").read_text())["stages"]

    assert snapshot == manifest_store.get(home, snapshot["sha256"])
    assert {name: snapshot[name] for name in ("format", "run_id", "stage", "try", "source", "exit_code", "origin")} == {
        "format": 1, "run_id": "r", "stage": "snapshot", "try": 3, "source": "executed", "exit_code": 0,
        "origin": "manual",
    }  # fmt: skip
    assert snapshot["airflow"] == task
    assert snapshot["mlflow_run_id"] == "mlflow-1"
    assert snapshot["as_of"] == "2026-01-01T00:00:00Z"
    assert snapshot["code"]["clean"]
    assert snapshot["parameters"] == lock["snapshot"]["params"]["params.yaml"]
    assert snapshot["sources"]["harbour/interactions"]["place"] == "world:tiny"
    assert snapshot["cpu_seconds"] > 0
    assert snapshot["peak_memory_bytes"] > 1_000_000

    [out] = lock["snapshot"]["outs"]
    found = snapshot["outputs"]["data/snapshot"]
    assert (found["md5"], found["bytes"], found["nfiles"]) == (out["md5"], out["size"], out["nfiles"])
    rows = {file["path"]: file for file in found["files"]}
    months = [name for name in rows if name.startswith("harbour/interactions/20")]
    assert len(months) > 3
    for name in months:
        month = Path(name).stem
        assert rows[name]["from"][:7] == rows[name]["to"][:7] == month
        listed = pl.read_parquet(manifest_store.users_path(home, rows[name]["md5"]))["user_id"]
        there = pl.read_parquet(workspace / "data/snapshot" / name)["user_id"]
        assert listed.to_list() == sorted(set(there.drop_nulls()))

    assert validate["airflow"] is None
    assert validate["try"] == 1
    assert validate["inputs"]["data/snapshot"] == {"md5": out["md5"], "bytes": out["size"], "files": out["nfiles"]}
    assert "pipeline/contracts" in validate["inputs"]
    assert validate["parents"] == {"data/snapshot": snapshot["sha256"]}
    assert validate["validation"]["success"]


def test_what_comes_from_the_cache_names_the_attempt_that_made_it(clone, home, mlflow):
    one, two, three = (opened(clone, home, name) for name in ("one", "two", "three"))
    for workspace in (one, two, three):
        assert reproduce_stage(workspace, "snapshot", home) == 0
    made, restored, again = (read_manifests(workspace)["snapshot"] for workspace in (one, two, three))
    assert (made["source"], made["came_from"]) == ("executed", None)
    assert (restored["source"], restored["came_from"]) == ("cached", made["sha256"])
    assert again["came_from"] == made["sha256"]  # the one that made it, not the one that was there before
    assert restored["outputs"] == made["outputs"]
    assert restored["sources"] == made["sources"]
    assert restored["mlflow_run_id"] is None
    assert mlflow == ["snapshot"]
    assert reproduce_stage(one, "snapshot", home) == 0  # its task was cleared
    assert kinds(one) == [("executed", 0, 1), ("cached", 0, 2)]
    assert read_manifests(one)["snapshot"]["came_from"] == made["sha256"]


def test_a_store_that_lost_the_maker_does_not_stop_a_run(clone, home, caplog):
    one, two = (opened(clone, home, name) for name in ("one", "two"))
    assert reproduce_stage(one, "snapshot", home) == 0
    made = read_manifests(one)["snapshot"]
    manifest_store.path_of(home, made["sha256"]).unlink()
    shutil.rmtree(manifest_store.users_path(home, "x").parent)
    assert reproduce_stage(two, "snapshot", home) == 0
    restored = read_manifests(two)["snapshot"]
    assert (restored["source"], restored["came_from"]) == ("cached", None)
    assert restored["outputs"] == made["outputs"]  # described anew
    assert list(manifest_store.users_path(home, "x").parent.iterdir())
    assert "cannot say where its outputs came from" in caplog.text


def test_a_failed_attempt_leaves_one_with_its_sentence(clone, home):
    workspace = opened(clone, home, as_of="1999-01-01")
    assert reproduce_stage(workspace, "snapshot", home) == 78
    assert reproduce_stage(workspace, "snapshot", home) == 78
    first, second = read_every_attempt(workspace)
    assert (first["source"], first["exit_code"], first["try"], second["try"]) == ("failed", 78, 1, 2)
    assert "is not after the first interaction" in first["message"]
    assert first["outputs"] == {}
    assert first["parameters"]["as_of"].startswith("1999-01-01")
    assert first["cpu_seconds"] > 0
    assert read_manifests(workspace) == {}
    assert {first["sha256"], second["sha256"]} == set(manifest_store.names(home))


def test_a_killed_stage_leaves_one_at_once_and_its_retry_another(clone, home):
    workspace = opened(clone, home)
    (workspace / "mood").write_text("dies")
    assert reproduce_stage(workspace, "snapshot", home) == 137
    (workspace / "mood").unlink()
    assert reproduce_stage(workspace, "snapshot", home) == 0
    assert kinds(workspace) == [("failed", 137, 1), ("executed", 0, 2)]


@pytest.mark.parametrize("finder", ["the retry", "the closing"])
def test_an_attempt_killed_with_everything_around_it_is_told_of_by_whoever_finds_it(clone, home, finder):
    workspace = opened(clone, home)
    (workspace / "mood").write_text("sleeps")
    environment = {**os.environ, "WARMSTART_HOME": str(home), TASK_VARIABLE: json.dumps({"try_number": 4})}
    words = [sys.executable, "-m", "pipeline", "workspace", "stage", "snapshot"]
    attempt = subprocess.Popen(words, cwd=workspace, env=environment, start_new_session=True)
    end = time.monotonic() + 60
    while not (workspace / "asleep").exists():
        assert time.monotonic() < end
        time.sleep(0.1)
    graph = load_graph(workspace / "dvc.yaml")
    bury_killed(workspace, home, graph, "snapshot")
    assert kinds(workspace) == []  # it lives
    family = psutil.Process(attempt.pid).children(recursive=True)
    os.killpg(attempt.pid, signal.SIGKILL)
    attempt.wait()
    psutil.wait_procs(family, timeout=30)  # DVC takes a dead process that nobody has waited for yet for a living one
    (workspace / "mood").unlink()
    if finder == "the retry":
        assert reproduce_stage(workspace, "snapshot", home) == 0
        assert kinds(workspace) == [("failed", 137, 4), ("executed", 0, 2)]
    else:
        bury_killed(workspace, home, graph, "snapshot")
        bury_killed(workspace, home, graph, "snapshot")
        assert kinds(workspace) == [("failed", 137, 4)]
    assert "killed" in read_every_attempt(workspace)[0]["message"]


def test_mlflow_away_after_the_outputs_stand(clone, home, monkeypatch, mlflow):
    """75, no result yet; the retry runs nothing, tracks, and names the attempt that made the outputs."""
    workspace = opened(clone, home)

    def away(workspace: Path, manifest: dict[str, Any]) -> str:
        raise PassingFault("MLflow does not answer")

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.runs.attempt_end.track_stage", away)
        assert reproduce_stage(workspace, "snapshot", home) == 75
    assert read_manifests(workspace) == {}
    assert reproduce_stage(workspace, "snapshot", home) == 0
    [attempt] = [json.loads(path.read_text()) for path in (workspace / "run/attempts/snapshot").iterdir()]
    done = read_manifests(workspace)["snapshot"]
    assert (done["source"], done["attempt"], done["started"]) == ("executed", attempt["attempt"], attempt["started"])
    assert done["mlflow_run_id"] == "mlflow-1"
    failed = next(manifest for manifest in read_every_attempt(workspace) if manifest["source"] == "failed")
    assert (failed["exit_code"], failed["message"], failed["outputs"]) == (75, "MLflow does not answer", {})
    assert done["try"] == 2
    other = opened(clone, home, "other")
    assert reproduce_stage(other, "snapshot", home) == 0
    assert read_manifests(other)["snapshot"]["came_from"] == done["sha256"]


def test_closing_tells_the_index_of_every_attempt_and_survives_its_absence(clone, home, monkeypatch, caplog):
    from pipeline.lineage import index

    monkeypatch.setattr(close, "_track", lambda settings, workspace, finished, page: "an id")
    workspace = opened(clone, home)
    (workspace / "mood").write_text("dies")
    assert reproduce_stage(workspace, "snapshot", home) == 137
    (workspace / "mood").unlink()
    assert reproduce_stage(workspace, "snapshot", home) == 0
    told: list[dict[str, Any]] = []
    monkeypatch.setattr(index, "ingest", lambda manifest, home: told.append(manifest))
    assert close.close_run(Settings(home=home), "r") is False
    record = record_path(Settings(home=home), "r")
    assert told == read_every_attempt(record) == read_every_attempt(workspace)
    assert [manifest["exit_code"] for manifest in told] == [137, 0]

    def away(manifest: dict[str, Any], home: Path) -> None:
        raise ConnectionError("refused")

    monkeypatch.setattr(index, "ingest", away)
    assert close.close_run(Settings(home=home), "r") is False
    assert "`warmstart lineage rebuild`" in caplog.text
