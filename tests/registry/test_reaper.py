"""MLflow runs left RUNNING are closed with the truth; what may be alive is left alone."""

from __future__ import annotations

import fcntl
import re
import shutil

import pytest
import yaml

from pipeline.registry.reaper import REAPED_TAG, reap
from pipeline.runs.tracking import PARENT_TAG, RUN_TAG, STAGE_TAG, experiment_id, parent_run
from pipeline.settings import settings

RUN = {"commit": "c" * 40, "as_of": "2026-01-01", "data": "x", "targets": [], "overrides": [], "git_ref": "HEAD"}


@pytest.fixture
def night(registry, request):
    """A run with a parent and one stage's child in MLflow, both RUNNING, and its workspace."""
    run_id = re.sub(r"[^a-zA-Z-]", "-", f"run-{request.node.name}")
    parent = parent_run(registry.rest, RUN | {"run_id": run_id})
    tags = {RUN_TAG: run_id, STAGE_TAG: "pretrain", PARENT_TAG: parent}
    child = registry.client.create_run(experiment_id(registry.rest), tags=tags).info.run_id
    workspace = registry.home / "runs" / run_id
    (workspace / "run" / "leases").mkdir(parents=True)

    class Night:
        def __init__(self) -> None:
            self.workspace, self.record, self.run_id = workspace, registry.home / "records" / run_id, run_id

        def reap(self, state: str | None, spare: str | None = None) -> list[str]:
            done = reap(settings(), registry.rest, lambda run: state if run == run_id else "running", spare)
            return [sentence for sentence in done if sentence.startswith(run_id + " ")]

        def close(self, finished: bool) -> None:
            shutil.rmtree(self.workspace)
            self.record.mkdir(parents=True)
            (self.record / "run.yaml").write_text(yaml.safe_dump({"run_id": run_id, "finished": finished}))

        def statuses(self) -> tuple[str, str]:
            return tuple(registry.client.get_run(run).info.status for run in (parent, child))

        def why(self) -> str:
            return registry.client.get_run(child).data.tags[REAPED_TAG]

    return Night()


@pytest.mark.parametrize(("finished", "status"), [(True, "FINISHED"), (False, "FAILED")])
def test_a_closed_run_ends_as_its_record_says(night, finished, status):
    night.close(finished)
    assert len(night.reap(None)) == 2
    assert night.statuses() == (status, "KILLED")
    assert "the process that wrote it was killed" in night.why()
    assert night.reap(None) == []


def test_a_run_of_which_nothing_is_left(night):
    shutil.rmtree(night.workspace)
    night.reap(None)
    assert night.statuses() == ("KILLED", "KILLED")


@pytest.mark.parametrize("state", ["running", "queued", None])
def test_a_run_that_may_be_alive_is_left_alone(night, state):
    assert night.reap(state) == []
    assert night.statuses() == ("RUNNING", "RUNNING")


@pytest.mark.parametrize(("state", "status"), [("failed", "FAILED"), ("success", "KILLED")])
def test_a_run_that_airflow_says_has_ended(night, state, status):
    night.reap(state)
    assert night.statuses() == (status, "KILLED")


def test_a_stage_still_at_work_keeps_its_run(night):
    with (night.workspace / "run" / "leases" / "pretrain").open("w") as lease:
        fcntl.flock(lease, fcntl.LOCK_EX)
        assert night.reap("failed") == []
    assert len(night.reap("failed")) == 2


def test_the_run_that_is_being_opened_is_spared(night):
    shutil.rmtree(night.workspace)
    assert night.reap(None, spare=night.run_id) == []


def test_other_runs_in_the_same_mlflow_are_left_alone(registry):
    other = registry.client.create_run(experiment_id(registry.rest)).info.run_id
    reap(settings(), registry.rest, lambda run: "failed")
    assert registry.client.get_run(other).info.status == "RUNNING"
