"""What MLflow sees of a run: one parent run, and a child for each stage, written from the stage's manifest.

A stage that made nothing new (its output came from the cache, or it only changed the world outside) gets its child
when the run is closed. Its manifest stands by then and names no MLflow run; the child names the manifest.
"""

from __future__ import annotations

import json
import logging
import os
import time
from pathlib import Path
from typing import Any

from pipeline.exit_codes import PassingFault
from pipeline.registry.mlflow_rest import MlflowRest
from pipeline.runs.manifest import EXECUTED
from pipeline.runs.manifest_store import DIGEST
from pipeline.runs.workspace import run_record
from pipeline.settings import settings

log = logging.getLogger(__name__)

EXPERIMENT = "warmstart"
RUN_TAG = "warmstart.run_id"
STAGE_TAG = "warmstart.stage"
PARENT_TAG = "mlflow.parentRunId"
PAGE_TAG = "warmstart.run_page"
MANIFEST_TAG = "warmstart.manifest"
NOTE_TAG = "mlflow.note.content"
PARAM_LIMIT = 500  # characters
# Models go to the tracking server as files a person can open without running code.
MODEL_OUTPUTS = ("models/",)
REPORT_OUTPUTS = ("reports/",)


def client() -> Any:
    """MLflow's own client, for logging and loading models; gives up after seconds when the server is away."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    _without_plugins_of_others()
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=settings().mlflow_uri, registry_uri=settings().mlflow_uri)


def parent_run(rest: MlflowRest, run: dict[str, Any]) -> str:
    """The id of the MLflow run of a DAG run, made if it is not there yet."""
    experiment = experiment_id(rest)
    known = _find(rest, experiment, f"tags.`{RUN_TAG}` = '{run['run_id']}' and tags.`{STAGE_TAG}` = 'run'")
    if known:
        return known
    tags = {RUN_TAG: run["run_id"], STAGE_TAG: "run", "mlflow.source.git.commit": run["commit"]}
    created = str(rest.create_run(experiment, run["run_id"], tags)["run_id"])
    asked = ("as_of", "data", "targets", "overrides", "git_ref")
    rest.log_batch(created, [], {name: str(run[name])[:PARAM_LIMIT] for name in asked})
    return created


def track_stage(workspace: Path, manifest: dict[str, Any], rest: MlflowRest | None = None) -> str:
    """Write a stage's child run: parameters, metrics by step, inputs with DVC's md5 as digest, models and reports.

    Returns its id.

    Repeating it is harmless: a finished child of the same stage is left as it is.
    """
    rest = rest or MlflowRest(settings().mlflow_uri)
    parent = parent_run(rest, run_record(workspace))
    experiment = experiment_id(rest)
    address = manifest["stage"]
    query = f"tags.`{PARENT_TAG}` = '{parent}' and tags.`{STAGE_TAG}` = '{address}'"
    known = _find(rest, experiment, query + " and attributes.status = 'FINISHED'")
    if known:
        return known
    tags = {
        PARENT_TAG: parent,
        STAGE_TAG: address,
        RUN_TAG: manifest["run_id"],
        "warmstart.source": manifest["source"],
        NOTE_TAG: manifest["message"],
    }
    if DIGEST in manifest:
        tags[MANIFEST_TAG] = manifest[DIGEST]
    child = rest.create_run(experiment, address, tags)
    run_id = str(child["run_id"])
    rest.log_batch(run_id, _metrics(workspace, manifest), _params(manifest))
    rest.log_inputs(run_id, _inputs(manifest))
    for path in manifest["outputs"]:
        if manifest["source"] == EXECUTED and path.startswith((*MODEL_OUTPUTS, *REPORT_OUTPUTS)):
            _keep_artifacts(rest, child, workspace / path, path)
    rest.end_run(run_id, "FINISHED", _now_ms())
    return run_id


def end_parent_run(rest: MlflowRest, run: dict[str, Any], finished: bool, page: str) -> str:
    """Close the MLflow run of a DAG run with the truth about how it ended; returns its id.

    Args:
        page: address of the run's page.
    """
    parent = parent_run(rest, run)
    rest.set_run_tag(parent, PAGE_TAG, page)
    rest.set_run_tag(parent, NOTE_TAG, f"[The page of this run]({page})")
    rest.end_run(parent, "FINISHED" if finished else "FAILED", _now_ms())
    return parent


def _without_plugins_of_others() -> None:
    # Feast registers a request header provider with MLflow; loading it imports all of Feast, 6 CPU-seconds in every
    # stage. It adds nothing here, so MLflow's registry is filled (on its import) while that group looks empty.
    from mlflow.utils import plugins

    every = plugins.get_entry_points
    plugins.get_entry_points = lambda group: [] if group == "mlflow.request_header_provider" else every(group)
    try:
        import mlflow.tracking.request_header.registry  # noqa: F401
    finally:
        plugins.get_entry_points = every


def experiment_id(rest: MlflowRest) -> str:
    """The id of the experiment all runs are in, made if it is not there yet."""
    # made by another run between the two questions: asked for again
    found = rest.experiment(EXPERIMENT) or rest.create_experiment(EXPERIMENT) or rest.experiment(EXPERIMENT)
    if found is None:
        raise PassingFault(f"MLflow says of the experiment {EXPERIMENT} that it is there, and then that it is not")
    return found


def _find(rest: MlflowRest, experiment: str, query: str) -> str | None:
    found = rest.runs(experiment, query)
    return str(found[0]["info"]["run_id"]) if found else None


def _keep_artifacts(rest: MlflowRest, run: dict[str, Any], folder: Path, path: str) -> None:
    if rest.takes_artifacts_of(run["artifact_uri"]):
        rest.put_artifacts(run["artifact_uri"], folder, path)
    else:
        client().log_artifacts(run["run_id"], str(folder), artifact_path=path)


def _params(manifest: dict[str, Any]) -> dict[str, str]:
    flat: dict[str, Any] = {}
    for name, value in manifest["parameters"].items():
        flat |= {f"{name}.{k}": v for k, v in value.items()} if isinstance(value, dict) else {name: value}
    return {name: str(value)[:PARAM_LIMIT] for name, value in sorted(flat.items())[:100]}


def _metrics(workspace: Path, manifest: dict[str, Any]) -> list[dict[str, Any]]:
    now = _now_ms()

    def metric(key: str, value: float, step: int = 0) -> dict[str, Any]:
        return {"key": key, "value": float(value), "timestamp": now, "step": step}

    metrics = [metric(name, value) for name, value in manifest["metrics"].items()]
    metrics += [metric(k, manifest[k]) for k in ("cpu_seconds", "peak_memory_bytes") if manifest[k]]
    history = workspace / next(iter(manifest["outputs"]), "") / "history.jsonl"
    if history.is_file():
        for line in history.read_text().splitlines():
            row = json.loads(line)
            step = int(row.pop("step"))
            metrics += [metric(k, v, step) for k, v in row.items() if isinstance(v, int | float)]
    return metrics[:1000]


def _inputs(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    # MLflow's own digest covers the first 10,000 rows and no timestamps; DVC's covers every byte
    return [
        {
            "dataset": {
                "name": path,
                "digest": file["md5"][:36],
                "source_type": "dvc",
                "source": json.dumps({"path": path}),
            },
            "tags": [{"key": "mlflow.data.context", "value": "input"}],
        }
        for path, file in manifest["inputs"].items()
        if path.startswith(("data/", "models/")) and "md5" in file
    ]


def _now_ms() -> int:
    return int(time.time() * 1000)
