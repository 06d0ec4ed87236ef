"""MLflow's registry as Warmstart uses it: one version per run and target, and an alias for the one that serves.

MLflow's aliases have no compare-and-swap and registering twice makes two versions, so every change happens under a
lock of PostgreSQL (advisory, held by the session: a process that dies has let go).
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

from pipeline.settings import settings

ALIAS = "champion"
RUN_TAG = "warmstart.run_id"
CONTENT_TAG = "warmstart.content"
AS_OF_TAG = "warmstart.as_of"
COMMIT_TAG = "warmstart.commit"


@dataclass(frozen=True)
class Version:
    """A registered model version.

    Attributes:
        name: `rec-<target>`.
        version: its number.
        run_id: the run that made it.
        content: digest of the served folder (`content_digest`).
        as_of: what it has learned up to, ISO 8601 UTC.
        model_id: MLflow's id of the logged model that holds its files.
    """

    name: str
    version: int
    run_id: str
    content: str
    as_of: str
    model_id: str


def model_name(target: str) -> str:
    """Name of the registered model that serves a target domain."""
    return f"rec-{target}"


@contextmanager
def registry_lock(target: str) -> Iterator[None]:
    """Nobody else registers or promotes models of `target` during the body.

    Raises:
        psycopg.OperationalError: PostgreSQL is away (a passing fault to the stage's wrapper).
    """
    import psycopg

    with psycopg.connect(settings().postgres_url("warmstart"), autocommit=True) as connection:
        connection.execute("select pg_advisory_lock(hashtextextended(%s, 0))", (model_name(target),))
        yield


def champion_of(mlflow: Any, target: str) -> Version | None:
    """The version that serves `target` today, None if there has never been one."""
    from mlflow.exceptions import MlflowException

    try:
        return _version(mlflow.get_model_version_by_alias(model_name(target), ALIAS))
    except MlflowException as fault:
        # the alias or the whole model is not there yet; anything else is a fault
        if fault.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def register_version(
    mlflow: Any, target: str, run: dict[str, str], served: Path, experiment: str, champion: Version | None
) -> Version:
    """Register the served folder as the version of this run; the one that is there already if the run is repeated.

    Call it under `registry_lock`. A model that is the champion's, byte for byte, points to the champion's files.

    Args:
        run: run.yaml's run_id, as_of and commit.
        served: folder of the served model (model.onnx and what stands beside it).
        experiment: MLflow's experiment id.
    """
    from mlflow.exceptions import MlflowException

    name = model_name(target)
    try:
        mlflow.create_registered_model(name, description=f"Recommender of the domain {target}")
    except MlflowException as fault:
        if fault.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    known = mlflow.search_model_versions(f"name = '{name}' and tags.`{RUN_TAG}` = '{run['run_id']}'")
    if known:
        return _version(known[0])
    content = content_digest(served)
    if champion is not None and champion.content == content:
        model_id = champion.model_id
    else:
        model_id = _log_model(mlflow, name, run, served, experiment)
    tags = {RUN_TAG: run["run_id"], AS_OF_TAG: run["as_of"], CONTENT_TAG: content, COMMIT_TAG: run["commit"]}
    made = mlflow.create_model_version(
        name, source=f"models:/{model_id}", tags=tags, model_id=model_id, await_creation_for=0
    )
    return _version(made)


def promote(mlflow: Any, version: Version) -> None:
    """Move the alias to `version`; call it under `registry_lock`."""
    mlflow.set_registered_model_alias(version.name, ALIAS, str(version.version))


def download(version: Version, into: Path) -> Path:
    """The served folder of a registered version, as it was when it was registered."""
    import mlflow

    mlflow.set_tracking_uri(settings().mlflow_uri)
    uri = f"models:/{version.name}/{version.version}"
    return Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(into))) / "served"


def content_digest(served: Path) -> str:
    """sha256 over names and contents of a served folder; equal for equal models, whichever run made them."""
    digest = hashlib.sha256()
    for path in sorted(p for p in served.rglob("*") if p.is_file()):
        digest.update(str(path.relative_to(served)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _log_model(mlflow: Any, name: str, run: dict[str, str], served: Path, experiment: str) -> str:
    logged = mlflow.create_logged_model(experiment, name=name, tags={RUN_TAG: run["run_id"]}, model_type="recommender")
    with tempfile.TemporaryDirectory() as scratch:
        mlflow.log_model_artifacts(logged.model_id, str(_as_mlflow_model(served, Path(scratch) / "model")))
    mlflow.finalize_logged_model(logged.model_id, "READY")
    return str(logged.model_id)


def _as_mlflow_model(served: Path, into: Path) -> Path:
    # an ordinary MLflow ONNX model (`mlflow models serve` loads it), with the whole served folder beside the graph
    import mlflow.onnx
    import onnx

    pins = [f"{package}=={installed(package)}" for package in ("mlflow", "onnx", "onnxruntime", "numpy")]
    mlflow.onnx.save_model(
        onnx.load(served / "model.onnx"),
        str(into),
        pip_requirements=pins,
        onnx_execution_providers=["CPUExecutionProvider"],
    )
    shutil.copytree(served, into / "served", copy_function=shutil.copyfile)
    return into


def _version(found: Any) -> Version:
    return Version(
        name=found.name,
        version=int(found.version),
        run_id=found.tags.get(RUN_TAG, ""),
        content=found.tags.get(CONTENT_TAG, ""),
        as_of=found.tags.get(AS_OF_TAG, ""),
        model_id=str(found.source).removeprefix("models:/"),
    )
