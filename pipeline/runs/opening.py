"""Open a run and leave a record of the attempt, as stages do, so that a refusal is read beside their findings."""

from __future__ import annotations

from pathlib import Path

from pipeline.exit_codes import DONE, StageError
from pipeline.registry.mlflow_rest import MlflowRest
from pipeline.registry.start import close_killed_runs
from pipeline.runs.attempt import Attempt
from pipeline.runs.faults import explain
from pipeline.runs.tracking import parent_run
from pipeline.runs.workspace import RunRequest, open_workspace, record_path, run_record
from pipeline.runs.wrapper import attempts_folder
from pipeline.settings import Settings

OPENING = "open"


def open_and_record(settings: Settings, request: RunRequest) -> Path:
    """The run's workspace, with its parent run in MLflow. The record of the attempt stands beside the run's own.

    Raises:
        StageError: with the sentence and the exit code for whatever stood in the way.
    """
    folder = attempts_folder(record_path(settings, request.run_id), OPENING, None)
    attempt = Attempt(folder, OPENING, {"git_ref": request.git_ref, "overrides": list(request.overrides)}, "")
    try:
        workspace = open_workspace(settings, request)
        run = run_record(workspace)
        parent_run(MlflowRest(settings.mlflow_uri), run)
        close_killed_runs(settings, request.run_id)
    except Exception as fault:
        code, sentence = explain(fault)
        attempt.end(code, sentence, {})
        if isinstance(fault, StageError):
            raise
        refusal = StageError(sentence)
        refusal.exit_code = code
        raise refusal from fault
    found = f"{run['data']} before {run['as_of']}, targets {', '.join(run['targets'])}, commit {run['commit'][:10]}"
    attempt.end(DONE, found, {})
    return workspace
