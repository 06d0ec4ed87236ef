"""The operator of the runtime `docker` on a real engine: exit codes, limits, what a container may and may not."""

from __future__ import annotations

import json
import os
import sys
import time
from datetime import timedelta

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException, AirflowTaskTimeout
from airflow.sdk.execution_time.task_runner import _run_execute_callable as run_as_airflow  # keeps the time limit

from pipeline.containers.labels import RUN, STAGE, TRY
from tests.containers.operators.conftest import answers, running, wait_until
from tests.stack_fixture import free_ports

EVERYTHING = """
import json, os, pathlib, socket
def may_write(path):
    try:
        pathlib.Path(path, "probe").write_text("x")
        return True
    except OSError:
        return False
status = dict(l.split(":\\t", 1) for l in pathlib.Path("/proc/self/status").read_text().splitlines() if ":\\t" in l)
said = {
    "uid": os.getuid(), "init": pathlib.Path("/proc/1/comm").read_text().strip(),
    "capabilities": int(status["CapEff"], 16) | int(status["CapBnd"], 16),
    "no_new_privileges": status["NoNewPrivs"].strip(),
    "writes": [p for p in ("/", "/etc", "/opt/venv", "/tmp", os.getcwd()) if may_write(p)],
    "environment": dict(os.environ), "cwd": os.getcwd(),
}
pathlib.Path("said").write_text(json.dumps(said))
"""


def test_a_stage_has_no_privilege_and_writes_nothing_but_its_workspace(bench, monkeypatch):
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", "of the orchestrator")
    monkeypatch.setenv("WARMSTART_AIRFLOW_PASSWORD", "of the orchestrator")
    bench.install(EVERYTHING)
    bench.run()
    said = json.loads(bench.said())
    assert said["uid"] != 0
    assert said["init"] == "tini"
    assert said["capabilities"] == 0
    assert said["no_new_privileges"] == "1"
    assert said["writes"] == ["/tmp", str(bench.workspace)]
    assert "of the orchestrator" not in json.dumps(said["environment"])
    assert json.loads(said["environment"]["WARMSTART_TASK"])["try_number"] == 1
    assert said["environment"]["WARMSTART_IMAGE"].startswith("sha256:")
    assert all(path.stat().st_uid == said["uid"] for path in bench.workspace.rglob("*"))
    assert bench.containers() == []


@pytest.mark.parametrize(
    ("code", "ending"), [(65, AirflowFailException), (75, AirflowException), (99, AirflowSkipException)]
)
def test_exit_codes_mean_what_they_mean_to_processes(bench, code, ending):
    bench.install(f"raise SystemExit({code})")
    with pytest.raises(ending) as raised:
        bench.run()
    assert type(raised.value) is ending
    assert bench.containers() == []


def test_limits_and_labels_are_those_of_the_stage(bench):
    bench.install("import time; time.sleep(60)")
    bench.in_background(bench.stage(cpus=0.5, memory="128m", shm="32m"))
    (container,) = bench.containers()
    assert (container["Labels"][RUN], container["Labels"][STAGE], container["Labels"][TRY]) == (
        bench.run_id, "pretrain", "1",
    )  # fmt: skip
    limits = bench.client.inspect_container(container["Id"])["HostConfig"]
    assert (limits["Memory"], limits["NanoCpus"], limits["ShmSize"]) == (128 * 2**20, 500_000_000, 32 * 2**20)
    assert limits["PidsLimit"] > 0
    assert limits["ReadonlyRootfs"]


def test_ending_the_task_ends_the_container_even_if_it_will_not_listen(bench):
    bench.install("import signal, time; signal.signal(15, signal.SIG_IGN); open('said', 'w').close(); time.sleep(60)")
    operator = bench.stage()
    worker = bench.in_background(operator)
    bench.said()
    began = time.monotonic()
    operator.on_kill()
    assert time.monotonic() - began < 5  # then Airflow kills the task's process
    assert bench.containers() == []
    worker.join(10)
    assert isinstance(worker.ending, AirflowException)


def test_a_stage_out_of_time_loses_its_container_even_if_it_will_not_listen(bench):
    bench.install("import signal, time; signal.signal(15, signal.SIG_IGN); open('said', 'w').close(); time.sleep(300)")
    operator = bench.stage(execution_timeout=timedelta(seconds=8))
    with pytest.raises(AirflowTaskTimeout):
        run_as_airflow(bench.context(), operator.execute, operator)
    assert (bench.workspace / "said").exists()  # it did work until then
    assert bench.containers() == []


@pytest.mark.parametrize("whose", ["own", "child's"])
def test_out_of_memory_is_told_with_the_limit_and_what_to_change(bench, capfd, whose):
    hog = "b = []\nwhile True: b.append(bytearray(2**24))"
    child = f"import subprocess, sys\nsys.exit(75 if subprocess.call([sys.executable, '-c', {hog!r}]) else 0)"
    bench.install(hog if whose == "own" else child)
    with pytest.raises(AirflowException, match="137" if whose == "own" else "75"):
        bench.run(bench.stage(memory="96m"))
    told = capfd.readouterr().out
    assert "OOMKilled" in told
    assert "0.09 GiB" in told
    assert "meta.memory" in told


def test_a_rerun_uses_the_image_that_was_pinned_when_its_run_was_opened(bench, monkeypatch, capfd):
    image = bench.client.inspect_image(os.environ.get("WARMSTART_IMAGE_STAGE", "warmstart-stage:cpu"))["Id"]
    monkeypatch.setenv("WARMSTART_IMAGE_STAGE", "nobody/has-this:1")  # what the name means today
    bench.install("import os; open('said', 'w').write(os.environ['WARMSTART_IMAGE'])")
    bench.pin(image)
    bench.run()
    assert bench.said() == image
    bench.pin(f"sha256:{64 * '0'}")
    with pytest.raises(AirflowFailException):
        bench.run()
    assert 64 * "0" in capfd.readouterr().out


def test_a_missing_image_is_refused_in_words(bench, monkeypatch, capfd):
    monkeypatch.setenv("WARMSTART_IMAGE_STAGE", "nobody/has-this:1")
    with pytest.raises(AirflowFailException):
        bench.run()
    told = capfd.readouterr().out
    assert "no image nobody/has-this:1" in told
    assert "make images" in told


def test_a_missing_engine_is_refused_in_words(bench, monkeypatch, capfd):
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    with pytest.raises(AirflowException, match="75"):
        bench.run()
    told = capfd.readouterr().out
    assert "no Docker engine answers at" in told
    assert "WARMSTART_RUNTIME=process" in told


def test_an_image_of_other_requirements_is_refused(bench, capfd):
    (bench.workspace / "requirements" / "stages.txt").write_text("torch==1.0\n")
    with pytest.raises(AirflowFailException):
        bench.run()
    told = capfd.readouterr().out
    assert "built from other requirements" in told
    assert bench.containers() == []


@pytest.mark.parametrize("seen", [0, None])  # by the driver's files; None: the engine is elsewhere, and is asked
def test_without_a_gpu_auto_falls_back_and_says_so_and_a_number_is_refused(bench, monkeypatch, capfd, seen):
    if seen is None and "nvidia" in bench.client.info()["Runtimes"]:
        pytest.skip("this engine has a driver for GPUs: this is about one that has none")
    monkeypatch.setattr("pipeline.containers.engine.host_gpus", lambda client: seen)
    bench.install("open('said', 'w').close()")
    bench.run(bench.stage(gpus="auto"))
    told = capfd.readouterr().out
    assert "runs on the CPU (gpus: auto)" in told
    (bench.workspace / "said").unlink()
    with pytest.raises(AirflowFailException):
        bench.run(bench.stage(gpus=1))
    assert "asks for 1 GPU(s)" in capfd.readouterr().out
    assert not (bench.workspace / "said").exists()
    assert bench.containers() == []


ASKS = """
import os, pathlib, socket, urllib.request
body = urllib.request.urlopen(os.environ["MLFLOW_TRACKING_URI"]).read().decode()
pathlib.Path("said").write_text(" ".join([body, *(name for _, name in socket.if_nameindex())]))
"""


def test_a_stage_reaches_mlflow_by_its_door_and_has_no_network_but_where_it_reads_sources(bench, monkeypatch):
    port, place = free_ports(1)[0], bench.home / "sockets" / "door.sock"
    served = bench.home / "served"
    served.mkdir()
    (served / "index.html").write_text("the-server " * 50_000)  # more than one piece of a connection
    for name, value in {"WARMSTART_MLFLOW_DOOR": place, "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}"}.items():
        monkeypatch.setenv(name, str(value))
    command = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "--directory", str(served), str(port)]
    with (
        running(command),
        running([sys.executable, "-m", "pipeline.containers.door", "in", str(place), "127.0.0.1", str(port)]),
    ):
        wait_until(lambda: answers(port))
        wait_until(place.exists)
        bench.install(ASKS)
        bench.run()
        said = bench.said().split()
        assert (said.count("the-server"), said[50_000:]) == (50_000, ["lo"])
        worker = bench.in_background(bench.stage("snapshot", network="outside"))
        assert bench.client.inspect_container(bench.containers()[0]["Id"])["HostConfig"]["NetworkMode"] == "host"
        worker.join(30)


def test_two_runs_at_once_do_not_meet(bench):
    other = bench.of_another_run("scheduled__2026-01-02T02:00:00+00:00")
    for run in (bench, other):
        run.install("import pathlib, time\nwhile not pathlib.Path('go').exists(): time.sleep(0.05)")
    workers = [run.in_background(run.stage(name)) for run in (bench, other) for name in ("pretrain", "validate")]
    assert len({(c["Labels"][RUN], c["Labels"][STAGE]) for c in bench.containers()}) == 4
    workers[0].operator.on_kill()
    for run in (bench, other):
        (run.workspace / "go").touch()
    wait_until(lambda: not any(worker.is_alive() for worker in workers))
    assert [worker.ending is None for worker in workers] == [False, True, True, True]
