"""What goes wrong in a night: bad input, a stage marked failed, a server that goes away. Nothing is lost."""

from __future__ import annotations

import json
import os
import signal
from contextlib import suppress

import psutil
import pytest
import yaml

from pipeline.exit_codes import BadConfiguration
from pipeline.runs.manifest import read_every_attempt
from pipeline.stack.processes import marked
from pipeline.stack.supervision import Supervisor
from tests.e2e.conftest import QUICK, Night, wait_until


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"overrides": ["pretrain.lerning_rate=1"]}, "did you mean pretrain.learning_rate"),
        ({"data": "/no/such/folder"}, "/no/such/folder"),
    ],
)
def test_a_wrong_request_is_refused_once_with_a_sentence(night, asked, sentence):
    """One refused by the pinned commit's code, one by ours; tests/unit/test_workspace.py has every other."""
    ended = night.run(**asked)
    assert ended.state == "failed"
    assert ended.tasks["open"]["try_number"] == 1  # 78: never retried
    [record] = [json.loads(p.read_text()) for p in (ended.record / "run" / "attempts" / "open").glob("*.json")]
    assert record["exit_code"] == 78
    assert sentence in record["message"]
    assert ended.tasks["snapshot"]["state"] == "upstream_failed"


def test_the_form_refuses_what_is_no_value(night):
    with pytest.raises(BadConfiguration, match="as_of"):
        night.trigger(as_of="yesterday")


def test_a_broken_contract_stops_the_run_and_shows_the_rows(night, tmp_path):
    world = {"name": "dirty", "world": {"size": "tiny", "dirt": 0.2}}
    (tmp_path / "dataset.yaml").write_text(yaml.safe_dump(world))
    ended = night.run(data=str(tmp_path))
    assert ended.state == "failed"
    assert ended.tasks["validate"]["state"] == "failed"
    assert ended.tasks["validate"]["try_number"] == 1  # 65: never retried
    assert ended.tasks["close"]["state"] == "success"
    [record] = [json.loads(p.read_text()) for p in (ended.record / "run" / "attempts" / "validate").glob("*.json")]
    assert record["exit_code"] == 65
    assert ended.workspace.exists()  # kept for inspection
    failed = ended.record / "run" / "failed" / "validate"
    assert (failed / "reports/validation/index.html").exists()
    assert list((failed / "data/quarantine").rglob("*.parquet"))
    snapshot, manifest = read_every_attempt(ended.record)
    assert (manifest["stage"], manifest["source"], manifest["exit_code"]) == ("validate", "failed", 65)
    assert manifest["validation"]["success"] is False
    assert any(manifest["validation"]["quarantined"].values())
    assert manifest["inputs"]["data/snapshot"]["md5"] == snapshot["outputs"]["data/snapshot"]["md5"]
    assert manifest["parents"] == {"data/snapshot": snapshot["sha256"]}


def test_marking_a_task_failed_ends_its_processes(night):
    run_id = night.trigger(overrides=["embed.encoder=hashing", "pretrain.epochs=1000", "pretrain.patience=1000"])
    wait_until(lambda: bool(stage_processes(night, "pretrain")), "pretrain to start")
    processes = stage_processes(night, "pretrain")
    night.patch_task(run_id, "pretrain", new_state="failed")
    wait_until(lambda: not any(p.is_running() and p.status() != "zombie" for p in processes), "their end")
    ended = night.wait(run_id)
    assert ended.state == "failed"
    assert ended.tasks["close"]["state"] == "success"
    [manifest] = [m for m in read_every_attempt(ended.record) if m["stage"] == "pretrain"]
    assert (manifest["source"], manifest["exit_code"]) == ("failed", 137)


def test_servers_that_go_away_are_waited_for(night):
    """MLflow stops in the middle of a run, later PostgreSQL is killed: 75, retries, and a green end."""
    supervisor = Supervisor(night.settings)
    # validate has to run again; what it writes is what it wrote, so the stages below it come from the cache
    run_id = night.trigger(overrides=[*QUICK, "validate.max_quarantined_share=0.06"])
    wait_until(lambda: night.task_state(run_id, "snapshot") == "success", "snapshot")
    supervisor.stop("mlflow")
    wait_until(lambda: night.task_state(run_id, "validate") == "up_for_retry", "a retry")
    supervisor.start("mlflow")
    wait_until(lambda: night.task_state(run_id, "features") == "success", "features")
    os.kill(supervisor.processes()["postgres"].pid, signal.SIGKILL)
    ended = night.wait(run_id)
    assert ended.state == "success", ended.states()
    assert ended.tasks["validate"]["try_number"] > 1
    validates = [m for m in read_every_attempt(ended.record) if m["stage"] == "validate"]
    assert [m["source"] for m in validates[:-1]] == ["failed"] * (len(validates) - 1)
    assert validates[-1] == ended.manifests["validate"]
    assert validates[-1]["mlflow_run_id"]


def stage_processes(night: Night, name: str) -> list[psutil.Process]:
    """The processes of a running stage of this stack: the task's command, DVC, and the stage itself."""
    found = []
    for process in marked(str(night.settings.home)):
        with suppress(psutil.Error):  # one that ends while it is looked at
            if {"pipeline", "stage", name} <= set(process.cmdline()):
                found.append(process)
    return found
