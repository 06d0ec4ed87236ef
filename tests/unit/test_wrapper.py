"""The wrapper around a stage: whole outputs or none, one exit code, a record of every attempt."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
import types
from pathlib import Path

import pytest

from pipeline.exit_codes import BadConfiguration, DataBrokeContract, PassingFault
from pipeline.runs.contract import StageParams, Summary
from pipeline.runs.wrapper import run_stage

GRAPH = """
stages:
  above: {cmd: x, params: [], outs: [data/above]}
  toy: {cmd: x, deps: [data/above], params: [toy], outs: [data/toy, reports/toy], meta: {cpus: 1}}
  each: {foreach: "${targets}", do: {cmd: x, deps: [data/above], params: [], outs: ["models/each/${item}"]}}
"""


class Params(StageParams):
    size: int = 1


@pytest.fixture
def root(tmp_path):
    (tmp_path / "dvc.yaml").write_text(GRAPH)
    (tmp_path / "params.yaml").write_text("toy: {size: 2}\ntargets: [t]\n")
    (tmp_path / "data" / "above").mkdir(parents=True)
    return tmp_path


@pytest.fixture
def stage(monkeypatch):
    """Put a function in the place of a stage's."""

    def install(function, name="toy", params=Params):
        module = types.ModuleType(f"pipeline.stages.{name}")
        module.run, module.Params = function, params
        monkeypatch.setitem(sys.modules, f"pipeline.stages.{name}", module)

    return install


def write(inputs, outputs, params, job):
    (outputs["data/toy"] / "rows.txt").write_text("x" * params.size)
    (outputs["reports/toy"] / "report.html").write_text("fine")
    return Summary("two rows", {"rows": 2})


def attempts(root, name="toy"):
    return [json.loads(p.read_text()) for p in (root / "run" / "attempts" / name).glob("*.json")]


def test_outputs_and_summary_stand_at_their_place(root, stage):
    stage(write)
    assert run_stage(root, "toy", None) == 0
    assert (root / "data/toy/rows.txt").read_text() == "xx"
    assert json.loads((root / "data/toy/summary.json").read_text())["found"] == "two rows"
    [record] = attempts(root)
    assert record["exit_code"] == 0
    assert record["message"] == "two rows"
    assert record["cpu_seconds"] > 0
    assert record["peak_memory_bytes"] > 1_000_000


def test_a_target_has_a_folder_of_its_own_and_the_function_does_not_see_it(root, stage):
    def each(inputs, outputs, params, job):
        (outputs["models/each"] / "name").write_text(job.target)
        return Summary("one")

    stage(each, "each", StageParams)
    assert run_stage(root, "each", "t") == 0
    assert (root / "models/each/t/name").read_text() == "t"


@pytest.mark.parametrize(
    ("fault", "code", "word"),
    [
        (DataBrokeContract("12 rows have no item_id"), 65, "12 rows have no item_id"),
        (PassingFault("busy"), 75, "busy"),
        (BadConfiguration("no such file"), 78, "no such file"),
        (ConnectionRefusedError("refused"), 75, "does not answer"),
        (OSError(errno.ENOSPC, "No space left on device", "/somewhere"), 75, "the disk is full"),
        (PermissionError(errno.EACCES, "Permission denied", "/somewhere"), 78, "no permission"),
        (ValueError("surprise"), 1, "ValueError: surprise"),
    ],
)
def test_every_fault_has_its_code_and_its_sentence(root, stage, fault, code, word):
    def broken(inputs, outputs, params, job):
        raise fault

    stage(broken)
    assert run_stage(root, "toy", None) == code
    [record] = attempts(root)
    assert record["exit_code"] == code
    assert word in record["message"]


def test_beside_the_first_process_of_torchrun_nothing_is_left(root, stage, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    for rank, code in (("1", 0), ("2", 78), ("0", 0)):
        monkeypatch.setenv("RANK", rank)
        before = sorted(root.rglob("*"))
        stage(write if code == 0 else refuse)
        assert run_stage(root, "toy", None) == code
        assert (sorted(root.rglob("*")) == before) == (rank != "0")


def refuse(inputs, outputs, params, job):
    raise BadConfiguration("no")


def test_libraries_own_words_for_a_server_that_is_away_are_understood():
    import httpx
    import psycopg
    import requests
    import sqlalchemy.exc
    from mlflow.exceptions import MlflowException

    from pipeline.runs.faults import explain

    away = [
        psycopg.OperationalError("connection refused"),
        sqlalchemy.exc.OperationalError("select 1", {}, Exception("gone")),
        requests.ConnectionError("refused"),
        httpx.ConnectError("refused"),
        MlflowException("API request failed with exception HTTPConnectionPool: Max retries exceeded with url"),
    ]
    assert [explain(fault)[0] for fault in away] == [75] * len(away)
    assert explain(MlflowException("Invalid parameter value"))[0] == 1


def test_a_failure_publishes_nothing_and_keeps_what_it_wrote_for_a_person(root, stage):
    stage(write)
    run_stage(root, "toy", None)

    def half(inputs, outputs, params, job):
        (outputs["reports/toy"] / "why.txt").write_text("because")
        raise DataBrokeContract("broken")

    stage(half)
    assert run_stage(root, "toy", None) == 65
    assert (root / "data/toy/rows.txt").read_text() == "xx"
    assert (root / "run/failed/toy/reports/toy/why.txt").read_text() == "because"


def test_a_metric_that_is_no_number_is_refused(root, stage):
    stage(lambda i, o, p, j: Summary("x", {"ndcg10": float("nan")}))
    assert run_stage(root, "toy", None) == 1
    assert "ndcg10 is nan" in attempts(root)[0]["message"]
    assert not (root / "data/toy").exists()


def test_a_missing_input_says_which_stage_to_run(root, stage, caplog):
    stage(write)
    (root / "data/above").rmdir()
    assert run_stage(root, "toy", None) == 78
    assert "data/above, which is not there" in caplog.text


@pytest.mark.parametrize(
    ("name", "target", "sentence"),
    [("toi", None, "no stage 'toi'"), ("each", None, "give --target"), ("toy", "t", "leave --target t out")],
)
def test_a_wrong_name_or_target_is_refused(root, caplog, name, target, sentence):
    assert run_stage(root, name, target) == 78
    assert sentence in caplog.text


def test_scratch_is_the_same_for_the_retry_of_the_same_work_and_gone_after_it(root, stage):
    seen = []

    def resumable(inputs, outputs, params, job):
        seen.append((job.scratch, (job.scratch / "checkpoint").exists()))
        (job.scratch / "checkpoint").write_text("half way")
        if len(seen) == 1:
            raise PassingFault("killed half way")
        return write(inputs, outputs, params, job)

    stage(resumable)
    assert run_stage(root, "toy", None) == 75
    assert run_stage(root, "toy", None) == 0
    assert [found for _, found in seen] == [False, True]
    assert not seen[0][0].exists()
    (root / "params.yaml").write_text("toy: {size: 3}\n")
    run_stage(root, "toy", None)
    assert seen[2][0] != seen[0][0]
    assert not seen[2][1]


def test_killed_at_any_moment_it_leaves_no_torn_output(root, tmp_path):
    """kill -9 in the middle of writing, then a rerun: never a half-written file at the final path."""
    script = tmp_path / "stage.py"
    script.write_text(
        textwrap.dedent("""
        import sys, time, types
        from pathlib import Path
        from pipeline.runs.contract import StageParams, Summary
        from pipeline.runs.wrapper import run_stage

        def run(inputs, outputs, params, job):
            for n in range(400):
                (outputs["data/toy"] / f"{n}.txt").write_text("x" * 1000)
                time.sleep(0.0005)
            return Summary("400 files")

        class Params(StageParams):
            size: int

        module = types.ModuleType("pipeline.stages.toy")
        module.run, module.Params = run, Params
        sys.modules["pipeline.stages.toy"] = module
        sys.exit(run_stage(Path(sys.argv[1]), "toy", None))
        """)
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    for moment in (0.05, 0.1, 0.15, 0.2, 0.25):
        started = subprocess.Popen([sys.executable, script, root], env=environment)
        while not (root / "run/staging/toy").exists():
            time.sleep(0.01)
        time.sleep(moment)
        started.send_signal(signal.SIGKILL)
        started.wait()
        whole = len(list((root / "data/toy").glob("*.txt")))
        assert whole in (0, 400)
    assert any("ended" not in record for record in attempts(root))
    assert subprocess.run([sys.executable, script, root], env=environment).returncode == 0
    assert len(list((root / "data/toy").glob("*.txt"))) == 400


def test_a_newer_attempt_ends_the_orphan_of_an_older_one(tmp_path):
    from pipeline.runs.lease import lease

    code = "import sys,time\nfrom pathlib import Path\nfrom pipeline.runs.lease import lease\n"
    code += "with lease(Path(sys.argv[1])):\n print('held', flush=True); time.sleep(60)\n"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    orphan = subprocess.Popen(
        [sys.executable, "-c", code, tmp_path / "lease"], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert orphan.stdout.readline().strip() == "held"
    with lease(tmp_path / "lease"):
        assert orphan.wait(10) == -signal.SIGTERM
