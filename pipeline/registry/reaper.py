"""Close MLflow runs that a killed process left RUNNING, with the truth and a tag that says why.

A run is left alone while it may be alive. It is over only when
* its workspace is gone: then its record says how it ended, and without a record it was never opened whole; or
* its workspace stands, Airflow says that the run has ended, and no stage of it is at work (every lease is free).
A workspace that Airflow does not know (opened by hand), or an Airflow that does not answer, proves nothing: nothing is
touched then. Nor is anything that other tools keep in the same MLflow: only Warmstart's own runs are looked at.
"""

from __future__ import annotations

import fcntl
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.exit_codes import StageError
from pipeline.registry.mlflow_rest import MlflowRest
from pipeline.runs.tracking import EXPERIMENT, RUN_TAG, STAGE_TAG
from pipeline.runs.workspace import record_path, run_record, workspace_path
from pipeline.settings import Settings

log = logging.getLogger(__name__)

REAPED_TAG = "warmstart.reaped"
# of a run: "success" or "failed" when it has ended, "queued" or "running" while it has not, None when it is not known
RunState = Callable[[str], str | None]


def reap(settings: Settings, rest: MlflowRest, state_of: RunState, spare: str | None = None) -> list[str]:
    """Close what is over; returns a sentence for each run that was closed.

    Args:
        state_of: what Airflow says of a run.
        spare: a run that is just being opened.
    """
    experiment = rest.experiment(EXPERIMENT)
    if experiment is None:
        return []
    endings: dict[str, tuple[str, str] | None] = {}
    done = []
    for run in rest.runs(experiment, "attributes.status = 'RUNNING'"):
        tags = {tag["key"]: tag["value"] for tag in run.get("data", {}).get("tags", [])}
        run_id, stage = tags.get(RUN_TAG), tags.get(STAGE_TAG)
        if not run_id or not stage or run_id == spare:
            continue
        if run_id not in endings:
            endings[run_id] = _ending(settings, run_id, state_of)
        ending = endings[run_id]
        if ending is None:
            continue
        # a stage's run is written after the stage, in seconds: left open, its writer was killed, however the rest ended
        status, why = ending if stage == "run" else ("KILLED", f"the process that wrote it was killed; {ending[1]}")
        rest.set_run_tag(run["info"]["run_id"], REAPED_TAG, why)
        rest.end_run(run["info"]["run_id"], status, int(time.time() * 1000))
        done.append(f"{run_id} {stage}: {status}, {why}")
        log.warning("MLflow run closed: %s", done[-1])
    return done


def airflow_state(settings: Settings) -> RunState:
    """Asks Airflow; None for whatever cannot be known."""
    api: list[Any] = []

    def state_of(run_id: str) -> str | None:
        from pipeline.follow.airflow_api import AirflowApi
        from pipeline.stack.credentials import airflow_login

        try:
            if not api:
                api.append(AirflowApi(settings.airflow_uri, *airflow_login(settings)))
            return str(api[0].run_state(run_id))
        except (StageError, KeyError):  # away, no login, or a run it does not know
            return None

    return state_of


def _ending(settings: Settings, run_id: str, state_of: RunState) -> tuple[str, str] | None:
    """(MLflow's status, why), None while the run may be alive."""
    workspace = workspace_path(settings, run_id)
    record = record_path(settings, run_id)
    if not workspace.exists():
        if not (record / "run.yaml").exists():
            return "KILLED", "it was never opened whole, and nothing of it is left"
        finished = bool(run_record(record).get("finished"))
        return ("FINISHED", "the run was closed") if finished else ("FAILED", "the run was closed unfinished")
    state = state_of(run_id)
    if state not in ("failed", "success") or _at_work(workspace):
        return None
    if state == "failed":
        return "FAILED", "Airflow says that the run has failed, and nothing of it is at work"
    # its workspace should be gone
    return "KILLED", "Airflow says that the run has ended, and its closing was cut short"


def _at_work(workspace: Path) -> bool:
    """Whether a stage holds its lease; the lock is the kernel's, so a dead holder holds nothing.

    Only asked of runs that have ended: trying a lock takes it for a moment, and a stage that starts would wait.
    """
    for path in (workspace / "run" / "leases").glob("*"):
        with path.open("a") as lease:
            try:
                fcntl.flock(lease, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
    return False
