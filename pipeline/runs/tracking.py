"""What MLflow sees of a run: one parent run, and a child for each stage, written from the stage's manifest.

A stage that made nothing new (its output came from the cache, or it only changed the world outside) gets its child
when the run is closed, so that a night in which nothing changed does not pay for importing MLflow fifteen times. Its
manifest stands by then and names no MLflow run; the child names the manifest.
"""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

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
# Models go to the tracking server as files a person can open without running code.
MODEL_OUTPUTS = ("models/",)
REPORT_OUTPUTS = ("reports/",)


def client() -> Any:
    """An MLflow client of the configured server; gives up after seconds, not minutes, when the server is away."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    _without_plugins_of_others()
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=settings().mlflow_uri, registry_uri=settings().mlflow_uri)


def parent_run(mlflow: Any, run: dict[str, Any]) -> str:
    """The id of the MLflow run of a DAG run, made if it is not there yet."""
    experiment = experiment_id(mlflow)
    known = _find(mlflow, experiment, f"tags.`{RUN_TAG}` = '{run['run_id']}' and tags.`{STAGE_TAG}` = 'run'")
    if known:
        return known
    tags = {RUN_TAG: run["run_id"], STAGE_TAG: "run", "mlflow.source.git.commit": run["commit"]}
    created = mlflow.create_run(experiment, run_name=run["run_id"], tags=tags)
    for name in ("as_of", "data", "targets", "overrides", "git_ref"):
        mlflow.log_param(created.info.run_id, name, str(run[name])[:500])
    return str(created.info.run_id)


def track_stage(workspace: Path, manifest: dict[str, Any], mlflow: Any = None) -> str:
    """Write a stage's child run: parameters, metrics by step, inputs with DVC's md5 as digest, models and reports.

    Returns its id.

    Repeating it is harmless: a finished child of the same stage is left as it is.
    """
    mlflow = mlflow or client()
    parent = parent_run(mlflow, run_record(workspace))
    experiment = experiment_id(mlflow)
    address = manifest["stage"]
    query = f"tags.`{PARENT_TAG}` = '{parent}' and tags.`{STAGE_TAG}` = '{address}'"
    known = _find(mlflow, experiment, query + " and attributes.status = 'FINISHED'")
    if known:
        return known
    tags = {
        PARENT_TAG: parent,
        STAGE_TAG: address,
        RUN_TAG: manifest["run_id"],
        "warmstart.source": manifest["source"],
    }
    if DIGEST in manifest:
        tags[MANIFEST_TAG] = manifest[DIGEST]
    child: str = mlflow.create_run(experiment, run_name=address, tags=tags).info.run_id
    mlflow.log_batch(child, metrics=_metrics(workspace, manifest), params=_params(manifest))
    mlflow.log_inputs(child, _inputs(manifest))
    for path in manifest["outputs"]:
        if manifest["source"] == EXECUTED and path.startswith((*MODEL_OUTPUTS, *REPORT_OUTPUTS)):
            mlflow.log_artifacts(child, str(workspace / path), artifact_path=path)
    mlflow.set_tag(child, "mlflow.note.content", manifest["message"])
    mlflow.set_terminated(child, "FINISHED")
    return child


def end_parent_run(mlflow: Any, run: dict[str, Any], finished: bool, page: str) -> str:
    """Close the MLflow run of a DAG run with the truth about how it ended; returns its id.

    Args:
        page: address of the run's page.
    """
    parent = parent_run(mlflow, run)
    mlflow.set_tag(parent, PAGE_TAG, page)
    mlflow.set_tag(parent, "mlflow.note.content", f"[The page of this run]({page})")
    mlflow.set_terminated(parent, "FINISHED" if finished else "FAILED")
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


def experiment_id(mlflow: Any) -> str:
    """The id of the experiment all runs are in, made if it is not there yet."""
    from mlflow.exceptions import MlflowException

    known = mlflow.get_experiment_by_name(EXPERIMENT)
    if known is None:
        try:
            return str(mlflow.create_experiment(EXPERIMENT))
        except MlflowException as fault:
            if fault.error_code != "RESOURCE_ALREADY_EXISTS":  # another run was quicker
                raise
            known = mlflow.get_experiment_by_name(EXPERIMENT)
    return str(known.experiment_id)


def _find(mlflow: Any, experiment: str, query: str) -> str | None:
    found = mlflow.search_runs([experiment], filter_string=query, max_results=1)
    return str(found[0].info.run_id) if found else None


def _params(manifest: dict[str, Any]) -> list[Any]:
    from mlflow.entities import Param

    flat: dict[str, Any] = {}
    for name, value in manifest["parameters"].items():
        flat |= {f"{name}.{k}": v for k, v in value.items()} if isinstance(value, dict) else {name: value}
    return [Param(name, str(value)[:500]) for name, value in sorted(flat.items())][:100]


def _metrics(workspace: Path, manifest: dict[str, Any]) -> list[Any]:
    from mlflow.entities import Metric

    metrics = [Metric(name, float(value), 0, 0) for name, value in manifest["metrics"].items()]
    metrics += [Metric(k, float(manifest[k]), 0, 0) for k in ("cpu_seconds", "peak_memory_bytes") if manifest[k]]
    history = workspace / next(iter(manifest["outputs"]), "") / "history.jsonl"
    if history.is_file():
        for line in history.read_text().splitlines():
            row = json.loads(line)
            step = int(row.pop("step"))
            metrics += [Metric(k, float(v), 0, step) for k, v in row.items() if isinstance(v, int | float)]
    return metrics[:1000]


def _inputs(manifest: dict[str, Any]) -> list[Any]:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    # MLflow's own digest covers the first 10,000 rows and no timestamps; DVC's covers every byte
    return [
        DatasetInput(
            Dataset(name=path, digest=file["md5"][:36], source_type="dvc", source=json.dumps({"path": path})),
            [InputTag("mlflow.data.context", "input")],
        )
        for path, file in manifest["inputs"].items()
        if path.startswith(("data/", "models/")) and "md5" in file
    ]
