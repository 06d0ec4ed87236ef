"""The rendered DAG is the DVC graph, and reading it costs next to nothing."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

from airflow.sdk.definitions.mappedoperator import MappedOperator

from pipeline.graph import load_graph
from pipeline.orchestration.render import TARGET_GROUP
from pipeline.orchestration.resources import timeout

CHECKOUT = Path(__file__).resolve().parents[2]
TARGETS = ["harbour", "orchard"]


def dvc_edges(tmp_path: Path) -> set[tuple[str, str]]:
    """(upstream, downstream) as DVC itself sees them, by its own command in a bare copy."""
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(CHECKOUT / name, tmp_path / name)
    dvc = [str(CHECKOUT / ".venv" / "bin" / "python"), "-m", "dvc"]
    subprocess.run([*dvc, "init", "--no-scm", "--quiet"], cwd=tmp_path, check=True, capture_output=True)
    dot = subprocess.run([*dvc, "dag", "--dot"], cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    return set(re.findall(r'"([^"]+)" -> "([^"]+)"', dot))


def dag_edges(dag) -> set[tuple[str, str]]:
    """The DAG's edges between stages, with the mapped group spelled out over the targets."""
    edges = set()
    for task in dag.tasks:
        for above in task.upstream_task_ids - {"open"}:
            if task.task_id == "close":
                continue
            for target in TARGETS if task.task_id.startswith(TARGET_GROUP) else [None]:
                edges.add((_address(above, target), _address(task.task_id, target)))
    return edges


def _address(task_id: str, target: str | None) -> str:
    inside = task_id.startswith(f"{TARGET_GROUP}.")
    return f"{task_id.removeprefix(f'{TARGET_GROUP}.')}@{target}" if inside else task_id


def test_the_rendered_dag_is_the_dvc_graph(dag, tmp_path):
    expected = dvc_edges(tmp_path)
    assert len(expected) > 30
    assert dag_edges(dag) == expected


def test_every_stage_is_a_task_and_nothing_else_is(dag):
    stages = load_graph(CHECKOUT / "dvc.yaml").stages
    tasks = {task.task_id.removeprefix(f"{TARGET_GROUP}.") for task in dag.tasks}
    assert tasks == {*stages, "open", "close"}


def test_meta_reaches_the_tasks(dag):
    stages = load_graph(CHECKOUT / "dvc.yaml").stages
    for task in dag.tasks:
        name = task.task_id.removeprefix(f"{TARGET_GROUP}.")
        if name not in stages:
            continue
        meta = stages[name].meta
        arguments = task.partial_kwargs if isinstance(task, MappedOperator) else vars(task)
        assert arguments["retries"] == meta["retries"]
        assert arguments["execution_timeout"] == timeout(meta["timeout"])
        assert arguments["pool"] == meta.get("pool", "default_pool")
        assert stages[name].description in arguments["doc_md"]


def test_opening_and_closing_frame_the_run(dag):
    assert dag.get_task("open").is_setup
    assert dag.get_task("close").is_teardown
    assert not dag.get_task("open").upstream_task_ids
    assert not dag.get_task("close").downstream_task_ids


def test_every_dag_file_is_read_without_error():
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(str(CHECKOUT / "dags"))
    assert bag.import_errors == {}
    assert set(bag.dag_ids) >= {"retrain"}


def test_reading_the_dag_imports_no_heavy_library_and_is_quick():
    code = """
import json, resource, runpy, sys
import airflow.sdk
from airflow.sdk import DAG, AssetOrTimeSchedule, CronTriggerTimetable, Param, BaseOperator, task_group, TaskGroup
began = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
runpy.run_path(sys.argv[1])
spent = sum(resource.getrusage(resource.RUSAGE_SELF)[:2]) - began
heavy = {"torch", "pandas", "dvc", "feast", "mlflow", "great_expectations", "pydantic_settings", "polars"}
print(json.dumps({"heavy": sorted(heavy & set(sys.modules)), "cpu_seconds": spent}))
"""
    path = str(CHECKOUT / "dags" / "retrain.py")
    out = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True, cwd=CHECKOUT)
    found = json.loads(out.stdout.splitlines()[-1])
    assert found["heavy"] == []
    # parsed every few seconds by the dag-processor; CPU-seconds, so that a busy machine does not matter
    assert found["cpu_seconds"] < 2
