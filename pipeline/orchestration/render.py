"""Render `dvc.yaml` as Airflow tasks: one task per stage, one mapped task group for the per-target stages.

`foreach: ${targets}` becomes `expand` over the targets of the run, because a run may bring its own dataset and with it
its own targets. Nobody writes an edge here: they come from `Graph.upstream`.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import Asset, BaseOperator, task_group

from pipeline.graph import Graph, Stage
from pipeline.orchestration.resources import timeout
from pipeline.orchestration.stage import CHAMPION, StageOperator

DATASET = Asset(name="dataset", uri="warmstart://dataset", group="warmstart")
TARGET_GROUP = "target"


def render(graph: Graph, opened: Any) -> dict[str, BaseOperator]:
    """Make a task of every stage, wired as in `graph`; returns them by stage name.

    Args:
        graph: the stages and edges.
        opened: the task that opens the run and returns its targets.
    """
    tasks: dict[str, BaseOperator] = {}
    for stage in graph.stages.values():
        if not stage.per_target:
            tasks[stage.name] = _task(stage)

    @task_group(group_id=TARGET_GROUP)
    def per_target(target: str) -> None:
        for stage in graph.stages.values():
            if stage.per_target:
                tasks[stage.name] = _task(stage, target)

    per_target.expand(target=opened.output)
    for name, task in tasks.items():
        for above in graph.upstream(name):
            tasks[above] >> task
        if not graph.upstream(name):
            opened >> task
    return tasks


def _task(stage: Stage, target: Any = None) -> BaseOperator:
    meta = stage.meta
    return StageOperator(
        task_id=stage.name,
        stage=stage.name,
        target=target,
        reads=stage.data,
        meta=meta,
        map_index_template="{{ task.target }}" if stage.per_target else None,
        doc_md=f"**{stage.name}**: {stage.description}\n\nReads {_list(stage.data)}; writes {_list(stage.outs)}.",
        pool=meta.get("pool", "default_pool"),
        retries=meta["retries"],
        retry_delay=timedelta(seconds=15),
        retry_exponential_backoff=True,
        max_retry_delay=timedelta(minutes=10),
        execution_timeout=timeout(meta["timeout"]),
        inlets=[DATASET] if stage.name == "snapshot" else None,
        outlets=[CHAMPION] if stage.name == "register" else None,
    )


def _list(paths: tuple[str, ...]) -> str:
    return ", ".join(f"`{path}`" for path in paths) or "the configured sources"
