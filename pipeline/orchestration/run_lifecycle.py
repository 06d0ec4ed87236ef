"""The first and the last task of a run: open its workspace, close it."""

from __future__ import annotations

from functools import partial
from typing import Any

import yaml
from airflow.sdk.exceptions import AirflowFailException

from pipeline.graph import load_graph
from pipeline.orchestration.exit_status import told
from pipeline.orchestration.location import CHECKOUT, home, workspace_folder
from pipeline.orchestration.runtime import LifecycleOperator, runtime
from pipeline.runs.as_of import as_of_rule, format_as_of


class OpenRunOperator(LifecycleOperator):
    """Open the workspace at the pinned commit; returns the names of the run's target domains.

    The names are the only thing beside the run id that crosses tasks: Airflow needs them to expand the target's group.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(words=[], in_workspace=False, **kwargs)

    def execute(self, context: Any) -> list[str]:
        self.words = open_words(context["dag_run"], context["params"])
        if runtime() != "process":
            with told(self):
                self.words += image_words()
        super().execute(context)
        self.do_xcom_push = True  # off in containers and pods, whose own kind of it is not wanted
        run = yaml.safe_load((workspace_folder(context["run_id"]) / "run.yaml").read_text())
        targets: list[str] = run["targets"]
        return targets


class CloseRunOperator(LifecycleOperator):
    """Close the run, whatever became of its stages: record, push to the DVC remote, tidy."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(words=["workspace", "close", "{{ run_id }}"], in_workspace=False, **kwargs)

    def execute(self, context: Any) -> None:
        """End the containers that no try will adopt any more, then close."""
        if runtime() == "docker":
            from pipeline.containers.engine import connect
            from pipeline.containers.running import end, find

            client = connect()
            for left in find(client, home(), context["run_id"]):
                self.log.warning("ending container %s: its run is being closed", left["Id"][:12])
                end(client, left["Id"])
        super().execute(context)


def image_words() -> list[str]:
    """`--image stage=sha256:…` for every image of the graph: what its name means now is what this run uses.

    Raises:
        StageError: no engine, or no such image.
    """
    from pipeline.containers.engine import connect, image_by_digest, pin_image

    digest_of = image_by_digest if runtime() == "kubernetes" else partial(pin_image, connect())
    graph = load_graph(CHECKOUT / "dvc.yaml")
    names = sorted({stage.meta["image"] for stage in graph.stages.values()})
    return [word for name in names for word in ("--image", f"{name}={digest_of(name)}")]


def open_words(dag_run: Any, params: Any) -> list[str]:
    """The `warmstart workspace open` command for a DAG run; `as_of` by the one rule (`pipeline.runs.as_of`)."""
    try:
        as_of = as_of_rule(params["as_of"], dag_run.run_after)
    except ValueError as fault:
        raise AirflowFailException(str(fault)) from None
    run_type = getattr(dag_run.run_type, "value", dag_run.run_type)
    words = ["workspace", "open", dag_run.run_id, "--as-of", format_as_of(as_of), "--origin", str(run_type)]
    words += ["--git-ref", params["git_ref"]]
    if params["data"]:
        words += ["--data", params["data"]]
    for target in params["targets"] or []:
        words += ["--target", target]
    for override in params["overrides"] or []:
        words += ["--set", override]
    if not params["promote"]:
        words += ["--no-promote"]
    if params["reason"]:
        words += ["--reason", params["reason"]]
    return words
