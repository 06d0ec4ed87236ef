"""The operator of the runtime `kubernetes`, executed: behind a pods API of the tests' own, pods run as containers."""

from __future__ import annotations

import json
import os
import threading
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException
from kubernetes.client import ApiException

from pipeline.containers.engine import pin_image
from pipeline.orchestration.container_mounts import prepare
from tests.containers.operators.conftest import META, Bench, lock_input, wait_until
from tests.containers.operators.pods_api import Cluster, serving

CANARY = "canary-of-the-cluster"


@pytest.fixture
def cluster(bench, tmp_path, monkeypatch):
    """A cluster whose volume is the home of the bench."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", CANARY)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    run = yaml.safe_load((bench.workspace / "run.yaml").read_text())
    image = pin_image(bench.client, "stage")
    (bench.workspace / "run.yaml").write_text(yaml.safe_dump(run | {"images": {"stage": image}}))
    made = Cluster(bench.client, {"warmstart-home": tmp_path}, {("warmstart", "AWS_SECRET_ACCESS_KEY"): CANARY})
    tmp_path.chmod(0o755)  # a cluster gives the volume to the pod's group
    with serving(made, tmp_path / "kubeconfig"):
        yield made


def operator(**meta: Any) -> Any:
    from pipeline.orchestration.pod import PodOperator

    made = PodOperator(
        task_id="pretrain", words=["workspace", "stage", "pretrain"], kubernetes_conn_id=None,
        config_file=os.environ["KUBECONFIG"], startup_check_interval_seconds=1,
        base_container_status_polling_interval=0.2,
    )  # fmt: skip
    made.reads, made.meta = ["data/training"], {**META, **meta}
    return made


def start_and_die(bench: Bench) -> None:
    """What a worker leaves that is killed as soon as its pod runs."""
    prepare(bench.home, bench.workspace)
    worker, context = operator(), task_context(bench, 1)
    worker._describe(context)
    worker.get_or_create_pod(worker.build_pod_request_obj(context), context)


def task_context(bench: Bench, attempt: int) -> dict[str, Any]:
    context = bench.context(attempt)
    context["ti"].xcom_push = lambda **_: None
    return context | {"dag": SimpleNamespace(parent_dag=None)}


def execute(bench: Bench, made: Any | None = None, attempt: int = 1) -> None:
    prepare(bench.home, bench.workspace)
    (made or operator()).execute(task_context(bench, attempt))


def test_a_stage_runs_in_a_pod_that_may_do_nothing_but_its_work(bench, cluster, capfd):
    bench.install(
        "import json, os, pathlib\n"
        "status = dict(l.split(':\\t', 1) for l in open('/proc/self/status').read().splitlines() if ':\\t' in l)\n"
        "pathlib.Path('said').write_text(json.dumps([os.getuid(), int(status['CapEff'], 16), dict(os.environ)]))\n"
        "print('a line of the stage')"
    )
    execute(bench)
    uid, capabilities, environment = json.loads(bench.said())
    assert (uid, capabilities) == (10001, 0)
    assert environment["AWS_SECRET_ACCESS_KEY"] == CANARY
    assert environment["WARMSTART_IMAGE"].startswith("sha256:")
    assert json.loads(environment["WARMSTART_TASK"])["try_number"] == 1
    told = capfd.readouterr()
    assert "a line of the stage" in told.out
    assert CANARY not in json.dumps(cluster.created) + told.out + told.err
    assert cluster.pods == {}


@pytest.mark.parametrize(
    ("code", "ending"), [(65, AirflowFailException), (75, AirflowException), (99, AirflowSkipException)]
)
def test_exit_codes_mean_what_they_mean_to_processes(bench, cluster, code, ending):
    bench.install(f"raise SystemExit({code})")
    with pytest.raises(ending) as raised:
        execute(bench)
    assert type(raised.value) is ending
    assert cluster.pods == {}


def test_out_of_memory_is_told_with_the_limit(bench, cluster, capfd):
    bench.install("b = []\nwhile True: b.append(bytearray(2**24))")
    with pytest.raises(AirflowException, match="137"):
        execute(bench, operator(memory="96m"))
    assert "OOMKilled" in capfd.readouterr().out


@pytest.mark.parametrize("same_work", [True, False])
def test_the_retry_attaches_to_the_pod_if_it_does_the_same_work(bench, cluster, same_work):
    bench.install(
        "import pathlib, time\nopen('begun', 'a').write('x')\nwhile not pathlib.Path('go').exists(): time.sleep(0.05)"
    )
    start_and_die(bench)
    wait_until(lambda: (bench.workspace / "begun").exists())
    if not same_work:
        lock_input(bench, "2")
    retry = threading.Thread(target=_ignore, args=(execute, bench, None, 2), daemon=True)
    retry.start()
    wait_until(lambda: cluster.watched == 1)
    (bench.workspace / "go").touch()
    assert len(cluster.created) == (1 if same_work else 2)
    retry.join(60)
    assert not retry.is_alive()
    assert (bench.workspace / "begun").read_text() == ("x" if same_work else "xx")
    assert cluster.pods == {}


def test_a_run_is_opened_by_a_pod_in_the_checkout(bench, cluster, monkeypatch):
    checkout = bench.home / "checkout"
    (checkout / "pipeline").mkdir(parents=True)
    (checkout / "params.yaml").touch()
    (checkout / "pipeline" / "__main__.py").write_text("import os, sys; print(os.getcwd(), sys.argv[1:])")
    monkeypatch.setenv("WARMSTART_CHECKOUT", str(checkout))
    monkeypatch.setenv("WARMSTART_IMAGE_STAGE", pin_image(bench.client, "stage"))
    made = operator()
    made.words, made.in_workspace = ["workspace", "open", "r"], False
    execute(bench, made)
    (container,) = cluster.created[0]["spec"]["containers"]
    assert container["workingDir"] == str(checkout)
    assert container["args"][-3:] == ["workspace", "open", "r"]


def test_marking_the_task_failed_deletes_the_pod(bench, cluster):
    bench.install("import time; open('said', 'w').close(); time.sleep(60)")
    made = operator()
    worker = threading.Thread(target=_ignore, args=(execute, bench, made), daemon=True)
    worker.start()
    bench.said()
    made.on_kill()
    assert cluster.pods == {}


def test_an_image_without_a_digest_is_refused(bench, cluster, monkeypatch, capfd):
    (bench.workspace / "run.yaml").write_text(yaml.safe_dump({"run_id": bench.run_id, "commit": "c0ffee"}))
    monkeypatch.setenv("WARMSTART_IMAGE_STAGE", "registry/warmstart-stage:latest")
    with pytest.raises(AirflowFailException):
        execute(bench)
    assert "name it with its digest" in capfd.readouterr().out
    assert cluster.created == []


def _ignore(function: Any, *arguments: Any) -> None:
    try:
        function(*arguments)
    except (AirflowException, ApiException):  # a worker whose pod another one has taken away
        return
