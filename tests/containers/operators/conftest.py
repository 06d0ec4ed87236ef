"""Containers for real, on this machine's Docker engine; skipped where there is none. These run in `.venv-airflow`.

A stage's code is a script of the test's choosing: it stands in the workspace where the package `pipeline` would.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from pipeline.containers.running import end, find
from pipeline.runs.folders import workspace_folder
from tests.containers.needed import engine_with_image

CHECKOUT = Path(__file__).resolve().parents[3]
META = {"image": "stage", "cpus": 1, "memory": "256m"}
os.environ["WARMSTART_RUNTIME"] = "docker"


@pytest.fixture(scope="session")
def client() -> Any:
    """A client of the engine."""
    return engine_with_image()


class TaskState(dict):
    """Airflow's task state, as a task sees it: outlives its tries."""

    set = dict.__setitem__


@dataclass
class Bench:
    """One run of a home, and its tasks."""

    home: Path
    client: Any
    run_id: str = "manual__2026-01-01T00:00:00+00:00"
    states: dict[str, TaskState] = field(default_factory=lambda: defaultdict(TaskState))

    @property
    def workspace(self) -> Path:
        return workspace_folder(self.home, self.run_id)

    def open(self) -> None:
        """Make the workspace, as far as an operator looks at it."""
        (self.workspace / "pipeline").mkdir(parents=True)
        (self.workspace / "requirements").mkdir()
        (self.workspace / "requirements" / "stages.txt").write_bytes(
            (CHECKOUT / "requirements/stages.txt").read_bytes()
        )
        (self.workspace / "run.yaml").write_text(yaml.safe_dump({"run_id": self.run_id, "commit": "c0ffee"}))
        (self.workspace / "params.yaml").write_text(yaml.safe_dump({"data": "world:tiny"}))
        lock_input(self, "1")

    def pin(self, image: str) -> None:
        """Say in run.yaml which image the run was opened with."""
        about = {"run_id": self.run_id, "commit": "c0ffee", "images": {"stage": image}}
        (self.workspace / "run.yaml").write_text(yaml.safe_dump(about))

    def of_another_run(self, run_id: str) -> Bench:
        """A run beside this one, in the same home."""
        other = Bench(self.home, self.client, run_id)
        other.open()
        return other

    def install(self, script: str) -> None:
        """Make `script` what `python -m pipeline` runs in the workspace."""
        (self.workspace / "pipeline" / "__main__.py").write_text(script)

    def stage(self, address: str = "pretrain", execution_timeout: timedelta | None = None, **meta: Any) -> Any:
        """The operator of a stage."""
        from pipeline.orchestration.stage import StageOperator

        return StageOperator(
            task_id=address, stage=address, reads=["data/training"], meta={**META, **meta}, docker_conn_id=None,
            execution_timeout=execution_timeout,
        )  # fmt: skip

    def context(self, attempt: int = 1, task: str = "pretrain") -> dict[str, Any]:
        """What Airflow gives a task."""
        ti = SimpleNamespace(
            dag_id="retrain", run_id=self.run_id, task_id=task, map_index=-1, try_number=attempt,
            log_url="http://airflow/task", stats_tags={},
        )  # fmt: skip
        return {"run_id": self.run_id, "ti": ti, "task_state_store": self.states[task]}

    def run(self, operator: Any | None = None, attempt: int = 1) -> None:
        """Execute a stage to its end."""
        operator = operator or self.stage()
        operator.execute(self.context(attempt, operator.task_id))

    def in_background(self, operator: Any | None = None, attempt: int = 1) -> Worker:
        """Execute a stage in a thread; returns when its container runs."""
        operator = operator or self.stage()
        worker = Worker(operator, self.context(attempt, operator.task_id))
        ours = partial(find, self.client, self.home, self.run_id, operator.stage)
        wait_until(lambda: any(c["State"] == "running" for c in ours()) or not worker.is_alive())
        return worker

    def containers(self) -> list[dict[str, Any]]:
        return find(self.client, self.home)

    def said(self, name: str = "said") -> str:
        """What a script has written into its workspace."""
        wait_until((self.workspace / name).exists)
        return (self.workspace / name).read_text()


class Worker(threading.Thread):
    """A task that is executed elsewhere; `ending` is the exception it ended with."""

    def __init__(self, operator: Any, context: dict[str, Any]) -> None:
        super().__init__(daemon=True)
        self.operator, self.context = operator, context
        self.ending: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self.operator.execute(self.context)
        except BaseException as ending:
            self.ending = ending


@pytest.fixture
def bench(client, tmp_path, monkeypatch) -> Iterator[Bench]:
    monkeypatch.setenv("WARMSTART_HOME", str(tmp_path))
    for name in [name for name in os.environ if name.startswith("WARMSTART_POSTGRES")]:
        monkeypatch.delenv(name)
    made = Bench(tmp_path, client)
    made.open()
    yield made
    for container in made.containers():
        end(client, container["Id"])


@contextmanager
def running(command: list[str]) -> Iterator[None]:
    """A process that is ended at the end."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.terminate()


def answers(port: int) -> bool:
    """Whether somebody listens on a TCP port of this machine."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def lock_input(bench: Bench, md5: str) -> None:
    """Say in dvc.lock what the stage's input is."""
    outs = [{"path": "data/training", "md5": md5}]
    (bench.workspace / "dvc.lock").write_text(json.dumps({"stages": {"features": {"outs": outs}}}))


def wait_until(condition: Callable[[], object], seconds: float = 30) -> None:
    """Wait for `condition`; fails the test after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s in vain"
        time.sleep(0.05)
