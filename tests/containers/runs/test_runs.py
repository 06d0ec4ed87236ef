"""Whole runs in containers, on a real Airflow: the same hashes, no secret anywhere, adopted, ended."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import yaml
from docker.errors import NotFound

from pipeline.containers.labels import labels
from pipeline.containers.reaper import reap_containers
from pipeline.containers.running import end, find
from pipeline.graph import load_graph, split_address
from pipeline.runs.as_of import parse_as_of
from pipeline.runs.attempt import IMAGE_VARIABLE
from pipeline.runs.reproduce import reproduce_stage
from pipeline.runs.workspace import RunRequest, open_workspace
from tests.containers.runs.conftest import CANARIES, WORK
from tests.e2e.conftest import TINY, Night, wait_until

CHECKOUT = Path(__file__).resolve().parents[3]
LONG = ["embed.encoder=hashing", "pretrain.epochs=1000", "pretrain.patience=1000"]


def test_a_run_in_containers_has_the_hashes_of_one_in_processes(docker_night, in_containers, tmp_path):
    assert in_containers.state == "success", in_containers.states()
    settings = docker_night.settings.model_copy(update={"home": tmp_path / "processes"})
    workspace = open_workspace(
        settings,
        RunRequest("by-hand", parse_as_of(TINY["as_of"]), TINY["data"], ("harbour",), tuple(WORK), promote=False),
    )
    graph = load_graph(workspace / "dvc.yaml")
    assert IMAGE_VARIABLE not in os.environ
    for address in graph.addresses(["harbour"]):
        if not graph.stages[split_address(address)[0]].always_changed:
            assert reproduce_stage(workspace, address, settings.home) == 0
    stages = yaml.safe_load((workspace / "dvc.lock").read_text())["stages"]
    by_processes = {out["path"]: out["md5"] for body in stages.values() for out in body["outs"]}
    assert len(by_processes) >= 12
    assert by_processes.items() <= in_containers.output_digests.items()


def test_every_manifest_names_the_image(engine, in_containers):
    image = yaml.safe_load((in_containers.record / "run.yaml").read_text())["images"]["stage"]
    assert engine.inspect_image(image)
    assert {m["environment"]["image"] for m in in_containers.manifests.values()} == {image}
    assert {m["exit_code"] for m in in_containers.manifests.values()} == {0}


def test_secrets_reach_the_stages_and_nothing_that_is_kept(docker_night, in_containers):
    rendered = [
        str(docker_night.api._get(f"/api/v2/dags/retrain/dagRuns/{in_containers.run_id}/taskInstances/{task}"))
        for task in ("snapshot", "pretrain")
    ]
    home = docker_night.settings.home
    kept = [
        path for path in home.rglob("*") if path.is_file() and path.parts[len(home.parts)] not in ("postgres", "run")
    ]
    assert len(kept) > 100
    assert "rendered_fields" in rendered[0]
    for canary in CANARIES.values():
        assert canary not in str(rendered)
        assert [str(path) for path in kept if canary.encode() in path.read_bytes()] == []


def test_nothing_that_a_stage_writes_belongs_to_root(docker_night, in_containers):
    home = docker_night.settings.home
    written = [path for folder in ("dvc/cache", "manifests", "openlineage") for path in (home / folder).rglob("*")]
    assert len(written) > 50
    assert 0 not in {path.stat().st_uid for path in written}


def test_a_killed_workers_container_is_adopted_and_ended_when_its_task_is_cleared_or_failed(engine, docker_night):
    run_id = docker_night.trigger(targets=["harbour"], overrides=LONG)
    container = await_container(engine, docker_night, run_id, "pretrain")
    assert engine.inspect_container(container)["HostConfig"]["NetworkMode"] == "none"
    kill_worker(docker_night, run_id, "pretrain")
    wait_until(lambda: docker_night.task_state(run_id, "pretrain") == "up_for_retry", "the loss of the worker")
    wait_until(lambda: "Reconnecting" in log_of(docker_night, run_id, "pretrain", 2), "the adoption")
    wait_until(lambda: "epoch 1/" in log_of(docker_night, run_id, "pretrain", 2), "the log from its first line")
    home = docker_night.settings.home
    [adopted] = find(engine, home, run_id, "pretrain")
    assert (adopted["Id"], adopted["State"]) == (container, "running")

    docker_night.clear_task(run_id, "pretrain")
    wait_until(lambda: container not in ids(engine, docker_night, run_id), "the end of the cleared task's container")
    another = await_container(engine, docker_night, run_id, "pretrain")
    assert ids(engine, docker_night, run_id) == [another]

    docker_night.patch_task(run_id, "pretrain", new_state="failed")
    wait_until(lambda: not find(engine, home, run_id, "pretrain"), "the end of the container")
    docker_night.wait(run_id)


def test_at_start_up_containers_are_ended_whose_run_is_over(engine, docker_night):
    settings = docker_night.settings
    image = engine.images(name="warmstart-stage:cpu")[0]["Id"]
    states = {"over": "failed", "alive": "running", "unknown": None}
    for run_id in states:
        (settings.home / "runs" / run_id).mkdir(parents=True)
        (settings.home / "runs" / run_id / "run.yaml").touch()
    made = {
        run_id: start(engine, image, labels(settings.home, run_id, "embed", 1, "")) for run_id in [*states, "closed"]
    }
    made["no stage"] = start(engine, image, labels(settings.home, "closed", "open", 1, ""))
    try:
        ended = reap_containers(settings, engine, lambda run_id: states.get(run_id))
        assert len(ended) == 2
        left = {container["Id"] for container in find(engine, settings.home)}
        assert {run_id for run_id, container in made.items() if container in left} == {"alive", "unknown", "no stage"}
    finally:
        for container in made.values():
            end(engine, container)


def start(engine: Any, image: str, marks: dict[str, str]) -> str:
    container = engine.create_container(image, ["sleep", "300"], labels=marks, network_disabled=True)
    engine.start(container["Id"])
    return str(container["Id"])


def ids(engine: Any, night: Night, run_id: str) -> list[str]:
    return [container["Id"] for container in find(engine, night.settings.home, run_id, "pretrain")]


def await_container(engine: Any, night: Night, run_id: str, stage: str) -> str:
    """The container of a stage, once the stage itself has begun its work in it."""
    home = night.settings.home

    def works() -> bool:
        with suppress(NotFound):  # a try that failed is cleared away between the two questions
            return any(b"epoch" in engine.logs(c["Id"]) for c in find(engine, home, run_id, stage))
        return False

    wait_until(works, f"the container of {stage}")
    return str(find(engine, home, run_id, stage)[0]["Id"])


def kill_worker(night: Night, run_id: str, name: str) -> None:
    """SIGKILL the process of Airflow that executes a task; its title names the task instance."""
    [instance] = [task["id"] for task in night.api.tasks(run_id) if task["task_id"] == name]
    [worker] = [
        p for p in psutil.process_iter(["cmdline"]) if f"airflow worker -- {instance}" in (p.info["cmdline"] or [])
    ]
    worker.send_signal(signal.SIGKILL)


def log_of(night: Night, run_id: str, task: str, attempt: int) -> str:
    files = (night.settings.home / "airflow" / "logs").rglob(f"run_id={run_id}/task_id={task}/attempt={attempt}.log")
    return "".join(file.read_text() for file in files)
