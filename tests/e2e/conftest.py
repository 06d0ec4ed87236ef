"""One real stack for all end-to-end tests: PostgreSQL, MLflow, Airflow with its scheduler; runs of the tiny world."""

from __future__ import annotations

import os
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.follow.airflow_api import DAG, AirflowApi
from pipeline.runs.manifest import read_manifests
from pipeline.runs.workspace import record_path, workspace_path
from pipeline.settings import CHECKOUT, Settings
from pipeline.stack.credentials import airflow_passwords
from tests.stack_fixture import running_stack

# Small enough that a whole run takes a minute; the stages, servers and code paths are the real ones.
EPOCHS = ["pretrain.epochs=2", "transfer.epochs=2", "distill.epochs=2", "prune.recovery_epochs=1"]
QUICK = ["embed.encoder=hashing", *EPOCHS]
PATIENCE_SECONDS = 600  # for anything: ten times what it takes where nothing else runs
TINY: dict[str, Any] = {"data": "world:tiny", "as_of": "2026-01-01", "overrides": QUICK}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The README's commands end with `make down`: they come last of those that share the stack."""
    ours = [item for item in items if item.path.parent == Path(__file__).parent]
    places = [place for place, item in enumerate(items) if item in ours]
    ours.sort(key=lambda item: item.path.name == "test_readme.py")
    for place, item in zip(places, ours, strict=True):
        items[place] = item


@dataclass
class Night:
    """A stack and what a test does with it."""

    settings: Settings
    api: AirflowApi

    def run(self, **conf: Any) -> Ended:
        """Trigger a run of the tiny world and wait for its end."""
        return self.wait(self.trigger(**conf))

    def trigger(self, **conf: Any) -> str:
        return self.api.trigger({**TINY, **conf})

    def wait(self, run_id: str) -> Ended:
        wait_until(lambda: self.api.run_state(run_id) in ("success", "failed"), f"the end of {run_id}")
        tasks = {self.name(task): task for task in self.api.tasks(run_id)}
        return Ended(run_id, self.api.run_state(run_id), tasks, self.settings)

    def task_state(self, run_id: str, name: str) -> str | None:
        return {self.name(t): t["state"] for t in self.api.tasks(run_id)}.get(name)

    def patch_task(self, run_id: str, task_id: str, **body: Any) -> None:
        answer = self.api._send("PATCH", f"/api/v2/dags/{DAG}/dagRuns/{run_id}/taskInstances/{task_id}", json=body)
        assert answer.status_code == 200, answer.text

    def clear_task(self, run_id: str, task_id: str) -> None:
        body = {"dag_run_id": run_id, "task_ids": [task_id], "only_failed": False, "dry_run": False}
        answer = self.api._send("POST", f"/api/v2/dags/{DAG}/clearTaskInstances", json=body)
        assert answer.status_code == 200, answer.text

    def log_of(self, run_id: str, task_id: str, attempt: int = 1) -> str:
        path = f"/api/v2/dags/{DAG}/dagRuns/{run_id}/taskInstances/{task_id}/logs/{attempt}"
        return str(self.api._get(path, params={"map_index": -1, "full_content": "true"}))

    @staticmethod
    def name(task: dict[str, Any]) -> str:
        short = task["task_id"].rpartition(".")[2]
        return f"{short}[{task['map_index']}]" if task["map_index"] >= 0 else short


def run_command(command: str, environment: Mapping[str, str]) -> str:
    """What a command of the README prints; the test fails if the command does."""
    done = subprocess.run(
        shlex.split(command), cwd=CHECKOUT, env=dict(environment), capture_output=True, text=True, timeout=600
    )
    if done.returncode:
        pytest.fail(f"{command} ended with {done.returncode}:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")
    return done.stdout


def as_people_type() -> dict[str, str]:
    """An environment in which `make run` takes the tiny world and few epochs, to stay short."""
    # make takes its options from the environment where the command line does not give them
    options = {"DATA": TINY["data"], "AS_OF": TINY["as_of"], "SET": " ".join(TINY["overrides"])}
    return {name: value for name, value in os.environ.items() if name != "MAKEFLAGS"} | options


@dataclass
class Ended:
    """A run that has ended."""

    run_id: str
    state: str
    tasks: dict[str, dict[str, Any]]
    settings: Settings

    @property
    def record(self) -> Path:
        return record_path(self.settings, self.run_id)

    @property
    def workspace(self) -> Path:
        return workspace_path(self.settings, self.run_id)

    @property
    def manifests(self) -> dict[str, dict[str, Any]]:
        return read_manifests(self.record)

    @property
    def output_digests(self) -> dict[str, str]:
        """md5 of every output, by path, from the run's dvc.lock."""
        stages = yaml.safe_load((self.record / "dvc.lock").read_text())["stages"]
        return {out["path"]: out["md5"] for body in stages.values() for out in body["outs"]}

    def states(self) -> dict[str, str]:
        return {name: task["state"] for name, task in self.tasks.items()}


def wait_until(condition: Callable[[], bool], what: str, seconds: float = PATIENCE_SECONDS) -> None:
    """Wait for `condition`; fails the test after `seconds`."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds:.0f} s in vain for {what}"
        time.sleep(0.5)


@pytest.fixture(scope="session")
def night(tmp_path_factory) -> Iterator[Night]:
    with running_stack(tmp_path_factory.mktemp("night") / "home") as settings:
        api = AirflowApi(settings.airflow_uri, "admin", airflow_passwords(settings)["admin"])
        api.await_dag()
        yield Night(settings, api)


@pytest.fixture(scope="session")
def first(night) -> Ended:
    """The first run: everything is new."""
    return night.run()


@dataclass
class Second:
    """The run that `make run` makes when nothing has changed, and what the person who typed it saw."""

    ended: Ended
    shown: str


@pytest.fixture(scope="session")
def second(night, first) -> Second:
    shown = run_command("make run", as_people_type())
    [latest] = night.api._get(f"/api/v2/dags/{DAG}/dagRuns", params={"order_by": "-run_after", "limit": 1})["dag_runs"]
    return Second(night.wait(latest["dag_run_id"]), shown)
