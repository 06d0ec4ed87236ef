"""A sweep in MLflow: one run, a step a point, and the page beside them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from pipeline.registry.mlflow_rest import MlflowRest
from pipeline.runs.tracking import client, experiment_id
from pipeline.settings import settings

SWEEP_TAG = "warmstart.sweep"  # whose teacher was made smaller
FIGURES = ("ndcg10", "bytes", "p50_ms", "parameters")


def track_sweep(found: dict[str, Any], folder: Path) -> str:
    """Write a sweep down.

    Args:
        found: sweep.json.
        folder: kept as artifacts.

    Returns:
        the run's id.

    Raises:
        PassingFault: MLflow does not answer.
    """
    rest = MlflowRest(settings().mlflow_uri)
    tags = {SWEEP_TAG: found["target"]}
    run = str(rest.create_run(experiment_id(rest), f"sweep {found['target']}", tags)["run_id"])
    now = int(time.time() * 1000)
    metrics = []
    for step, row in enumerate(found["points"]):
        values = {name: row[name] for name in FIGURES}
        if row["retention"] is not None:
            values["retention"] = row["retention"]["value"]
        metrics += [{"key": k, "value": float(v), "timestamp": now, "step": step} for k, v in values.items()]
    names = {f"point_{step}": f"{row['student']}: {row['export']}" for step, row in enumerate(found["points"])}
    rest.log_batch(run, metrics, names)
    client().log_artifacts(run, str(folder), artifact_path=f"reports/compression/{found['target']}")
    rest.end_run(run, "FINISHED", now)
    return run
