"""The real operator: what Airflow does with each exit code, and how a process group ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from pipeline.orchestration.process import ProcessOperator
from pipeline.orchestration.stage import StageOperator


@pytest.fixture
def interpreter(tmp_path, monkeypatch):
    """Stands where the stages' Python does: a shell script of the test's choosing."""
    (tmp_path / "runs" / "r").mkdir(parents=True)
    monkeypatch.setenv("WARMSTART_HOME", str(tmp_path))

    def install(script: str) -> Path:
        path = tmp_path / "python"
        path.write_text(f"#!/bin/bash\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setenv("WARMSTART_PYTHON", str(path))
        return tmp_path

    return install


def run_stage(**arguments):
    StageOperator(task_id="pretrain", stage="pretrain", **arguments).execute({"run_id": "r"})


def test_0_is_done(interpreter):
    home = interpreter('echo "$PWD $@" > "$WARMSTART_HOME/said"')
    run_stage()
    assert (home / "said").read_text().split() == [
        str(home / "runs" / "r"), "-m", "pipeline", "workspace", "stage", "pretrain",
    ]  # fmt: skip


def test_the_target_is_part_of_the_address(interpreter):
    home = interpreter('echo "$@" > "$WARMSTART_HOME/said"')
    run_stage(target="harbour")
    assert (home / "said").read_text().split()[-1] == "pretrain@harbour"


@pytest.mark.parametrize("code", [65, 78])
def test_what_a_retry_cannot_help_is_not_retried(interpreter, code):
    interpreter(f"exit {code}")
    with pytest.raises(AirflowFailException, match=str(code)):
        run_stage()


@pytest.mark.parametrize("code", [1, 75, 137, 143])
def test_what_may_pass_is_retried(interpreter, code):
    interpreter(f"exit {code}")
    with pytest.raises(AirflowException, match=str(code)) as raised:
        run_stage()
    assert not isinstance(raised.value, AirflowFailException | AirflowSkipException)


def test_a_kill_signal_reads_as_137(interpreter):
    interpreter("kill -KILL $$")
    with pytest.raises(AirflowException, match="137"):
        run_stage()


def test_99_is_skipped_not_failed(interpreter):
    interpreter("exit 99")
    with pytest.raises(AirflowSkipException, match="nothing was promoted"):
        run_stage()


def test_the_command_cannot_see_airflows_own_settings(interpreter, monkeypatch):
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", "secret")
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    home = interpreter('env > "$WARMSTART_HOME/said"')
    run_stage()
    said = (home / "said").read_text()
    assert "AIRFLOW" not in said
    assert "PYTHONPATH" not in said


def test_the_command_knows_which_task_it_is(interpreter):
    home = interpreter('echo "$WARMSTART_TASK" > "$WARMSTART_HOME/said"')
    ti = SimpleNamespace(
        dag_id="retrain", run_id="r", task_id="target.prune", map_index=1, try_number=2, log_url="http://a/dags/retrain"
    )
    StageOperator(task_id="prune", stage="prune", target="t").execute({"run_id": "r", "ti": ti})
    assert json.loads((home / "said").read_text()) == {
        "dag_id": "retrain", "run_id": "r", "task_id": "target.prune", "map_index": 1, "try_number": 2,
        "url": "http://a/dags/retrain",
    }  # fmt: skip


def test_every_task_instance_has_what_the_manifest_tells():
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    known = {*RuntimeTaskInstance.model_fields, *vars(RuntimeTaskInstance)}
    assert {"dag_id", "run_id", "task_id", "map_index", "try_number", "log_url"} <= known


def test_killing_the_task_ends_the_whole_group_even_if_it_will_not_listen(interpreter, monkeypatch):
    monkeypatch.setattr("pipeline.orchestration.process.GRACE_SECONDS", 1)
    home = interpreter('trap "" TERM; sleep 300 & echo $! > "$WARMSTART_HOME/child"; wait; sleep 300')
    operator = ProcessOperator(task_id="t", words=[])
    failures: list[BaseException] = []
    worker = threading.Thread(target=lambda: _catch(failures, operator, {"run_id": "r"}))
    worker.start()
    child = _wait_for_pid(home / "child")
    while operator._process is None:  # on a busy machine the command writes before whoever started it goes on
        time.sleep(0.05)
    operator.on_kill()
    worker.join(20)
    assert not worker.is_alive()
    assert isinstance(failures[0], AirflowException)
    assert _gone(child)


def test_the_group_ends_with_its_worker(interpreter, tmp_path):
    # a worker that is SIGKILLed cannot clean up: the kernel tells the child, which tells its group
    script = tmp_path / "worker.py"
    script.write_text(
        "from pipeline.orchestration.process import ProcessOperator\n"
        "ProcessOperator(task_id='t', words=[]).execute({'run_id': 'r'})\n"
    )
    home = interpreter('echo $$ > "$WARMSTART_HOME/child"; exec sleep 300')
    worker = subprocess.Popen([sys.executable, str(script)], env={**os.environ, "PYTHONPATH": str(Path.cwd())})
    child = _wait_for_pid(home / "child", seconds=60)
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    assert _gone(child)


def _catch(failures, operator, context):
    try:
        operator.execute(context)
    except AirflowException as failure:
        failures.append(failure)


def _wait_for_pid(path: Path, seconds: float = 60) -> int:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if path.exists() and path.read_text().strip():
            return int(path.read_text())
        time.sleep(0.05)
    raise AssertionError(f"{path} was not written")


def _alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def _gone(pid: int, seconds: float = 10) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end and _alive(pid):
        time.sleep(0.05)
    return not _alive(pid)
