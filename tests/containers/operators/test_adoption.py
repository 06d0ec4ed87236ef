"""When the worker dies the container goes on: the retry adopts it, or ends it, and never starts a twin."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from airflow.sdk.exceptions import AirflowFailException

from tests.containers.operators.conftest import CHECKOUT, lock_input, wait_until

COUNTS = """
import pathlib, time
with open("begun", "a") as file:
    file.write("x")
print("line one", flush=True)
while not pathlib.Path("go").exists():
    time.sleep(0.05)
print("line two")
raise SystemExit(int(pathlib.Path("go").read_text() or 0))
"""
# a worker in a process of its own, so that it can be killed; without task state, as if it died before that was written
WORKER = """
from tests.containers.operators.conftest import Bench
from pathlib import Path
import sys
bench = Bench(Path(sys.argv[1]), None)
context = bench.context() | {"task_state_store": None}
bench.stage().execute(context)
"""


@pytest.fixture
def orphan(bench):
    """A container whose worker was killed."""
    bench.install(COUNTS)
    environment = os.environ | {"PYTHONPATH": str(CHECKOUT), "WARMSTART_HOME": str(bench.home)}
    worker = subprocess.Popen([sys.executable, "-c", WORKER, str(bench.home)], env=environment)
    wait_until(lambda: (bench.workspace / "begun").exists(), 60)
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    (container,) = bench.containers()
    assert container["State"] == "running"
    return container["Id"]


@pytest.mark.parametrize("persisted", [True, False])
def test_the_retry_adopts_the_container_and_its_log(bench, orphan, capfd, persisted):
    if persisted:
        bench.states["pretrain"]["container"] = orphan
    worker = bench.in_background(attempt=2)
    (bench.workspace / "go").touch()
    worker.join(30)
    assert worker.ending is None
    assert (bench.workspace / "begun").read_text() == "x"
    told = capfd.readouterr().out
    assert told.index("line one") < told.index("line two")
    assert bench.containers() == []


def test_what_ended_while_nobody_watched_is_not_done_again(bench, orphan):
    bench.states["pretrain"]["container"] = orphan
    (bench.workspace / "go").write_text("65")
    wait_until(lambda: bench.containers()[0]["State"] == "exited")
    with pytest.raises(AirflowFailException, match="65"):
        bench.run(attempt=2)
    assert (bench.workspace / "begun").read_text() == "x"
    assert bench.containers() == []


def test_what_failed_while_nobody_watched_is_tried_again(bench, orphan):
    bench.states["pretrain"]["container"] = orphan
    (bench.workspace / "go").write_text("75")
    wait_until(lambda: bench.containers()[0]["State"] == "exited")
    (bench.workspace / "go").write_text("0")
    bench.run(attempt=2)
    assert (bench.workspace / "begun").read_text() == "xx"


@pytest.mark.parametrize("persisted", [True, False])
def test_a_container_that_does_other_work_is_ended_first(bench, orphan, persisted):
    if persisted:
        bench.states["pretrain"]["container"] = orphan
    lock_input(bench, "2")
    (bench.workspace / "go").touch()
    bench.run(attempt=2)
    assert (bench.workspace / "begun").read_text() == "xx"
    assert orphan not in [container["Id"] for container in bench.containers()]
