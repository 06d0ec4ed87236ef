"""The first and the last task of a run: open its workspace, close it."""

from __future__ import annotations

from typing import Any

import yaml
from airflow.sdk.exceptions import AirflowFailException

from pipeline.orchestration.location import workspace_folder
from pipeline.orchestration.process import ProcessOperator
from pipeline.runs.as_of import as_of_rule, format_as_of


class OpenRunOperator(ProcessOperator):
    """Open the workspace at the pinned commit; returns the names of the run's target domains.

    The names are the only thing beside the run id that crosses tasks: Airflow needs them to expand the target's group.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(words=[], in_workspace=False, **kwargs)

    def execute(self, context: Any) -> list[str]:
        self.words = open_words(context["dag_run"], context["params"])
        super().execute(context)
        run = yaml.safe_load((workspace_folder(context["run_id"]) / "run.yaml").read_text())
        targets: list[str] = run["targets"]
        return targets


class CloseRunOperator(ProcessOperator):
    """Close the run, whatever became of its stages: record, push to the DVC remote, tidy."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(words=["workspace", "close", "{{ run_id }}"], in_workspace=False, **kwargs)


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
