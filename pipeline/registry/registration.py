"""Register the model of a run: one version for a run and target, however often, at once, or killed in between.

All of it happens under the target's lock, and each step looks for what an earlier attempt has left. The one thing a
lock cannot prevent is a request that was on its way to MLflow when its sender was killed: `settle` takes the higher
number away, and it is called wherever versions are looked for.
"""

from __future__ import annotations

import logging
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

from pipeline.registry.champion import (
    CONTENT_TAG,
    FILES_TAG,
    RUN_TAG,
    Version,
    content_digest,
    model_name,
    version_of,
)  # fmt: skip
from pipeline.registry.mlflow_rest import MlflowRest
from pipeline.registry.promotion_log import head, promotion_lock
from pipeline.registry.steps import passed

log = logging.getLogger(__name__)

DESCRIPTION_LIMIT = 5000  # characters, MLflow's column


@dataclass(frozen=True)
class Registration:
    """What is to be registered.

    Attributes:
        target: the domain it serves.
        run_id: the run that made it; names the version from now on.
        served: folder of the served model (model.onnx and what stands beside it).
        beside: files that belong to this version alone, by their path: its card, its evaluation.
        tags: of the version; the run's and the content's are added.
        card: markdown, the version's description.
    """

    target: str
    run_id: str
    served: Path
    beside: Mapping[str, bytes]
    tags: Mapping[str, str]
    card: str

    @property
    def files(self) -> str:
        """Folder of `beside` within the version's files."""
        return f"runs/{re.sub(r'[^A-Za-z0-9_.-]', '-', self.run_id)}"


def registered(rest: MlflowRest, target: str, run_id: str) -> Version | None:
    """The version that a run has registered for a target, None if it has not."""
    found = rest.versions(model_name(target), {RUN_TAG: run_id})
    return version_of(found[0]) if found else None


def register_version(client: Any, rest: MlflowRest, wanted: Registration, experiment: str) -> Version:
    """The version of this run, made if it is not there. Equal models of several versions share their files.

    Args:
        client: MLflow's own.
        experiment: MLflow's id of the experiment that holds the logged models.
    """
    name = model_name(wanted.target)
    with promotion_lock(wanted.target) as connection:
        _make_model(client, name, wanted.target)
        passed("model made")
        if known := settle(rest, wanted.target, wanted.run_id):
            return known
        content = content_digest(wanted.served)
        model_id = _same_content(rest, name, content, head(connection, wanted.target))
        if model_id is None:
            model_id = _log_model(client, name, wanted, experiment)
        _upload(client, model_id, wanted.beside, wanted.files)
        passed("card uploaded")
        tags = {**wanted.tags, RUN_TAG: wanted.run_id, CONTENT_TAG: content, FILES_TAG: wanted.files}
        client.create_model_version(
            name,
            source=f"models:/{model_id}",
            tags=tags,
            model_id=model_id,
            description=shortened(wanted.card),
            await_creation_for=0,
        )
        passed("version made")
        made = settle(rest, wanted.target, wanted.run_id)
        assert made is not None
        return made


def settle(rest: MlflowRest, target: str, run_id: str) -> Version | None:
    """The lowest version of a run, after taking away any other one that it has. Call it under the lock."""
    found = rest.versions(model_name(target), {RUN_TAG: run_id})
    for extra in found[1:]:
        log.warning(
            "%s version %s is run %s registered twice; it is taken away", extra["name"], extra["version"], run_id
        )
        rest.delete_version(extra["name"], int(extra["version"]))
    return version_of(found[0]) if found else None


def keep_file(client: Any, version: Version, path: str, content: bytes) -> None:
    """Add a file to those that belong to a version alone."""
    _upload(client, version.model_id, {path: content}, version.files)


def shortened(card: str) -> str:
    """The card as a description: whole lines, as many as MLflow's column holds."""
    if len(card) <= DESCRIPTION_LIMIT:
        return card
    more = "\n\n… the whole card is in the version's files.\n"
    return card[: DESCRIPTION_LIMIT - len(more)].rpartition("\n")[0] + more


def _make_model(client: Any, name: str, target: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name, description=f"Recommender of the domain {target}")
    except MlflowException as fault:
        if fault.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _same_content(rest: MlflowRest, name: str, content: str, champion: Any) -> str | None:
    """The logged model of the champion, if it is this very model: a night that changed nothing uploads nothing."""
    answer = rest.version(name, champion.to_version) if champion else None
    found = version_of(answer) if answer else None
    return found.model_id if found is not None and found.content == content else None


def _log_model(client: Any, name: str, wanted: Registration, experiment: str) -> str:
    query = f"name = '{name}' AND tags.`{RUN_TAG}` = '{wanted.run_id}'"
    for earlier in client.search_logged_models([experiment], filter_string=query):
        if str(earlier.status) in ("READY", "LoggedModelStatus.READY"):
            return str(earlier.model_id)
        client.delete_logged_model(earlier.model_id)  # half uploaded by an attempt that was killed
    logged = client.create_logged_model(experiment, name=name, tags={RUN_TAG: wanted.run_id}, model_type="recommender")
    passed("logged model made")
    with tempfile.TemporaryDirectory() as scratch:
        client.log_model_artifacts(logged.model_id, str(as_mlflow_model(wanted.served, Path(scratch) / "model")))
    passed("files uploaded")
    client.finalize_logged_model(logged.model_id, "READY")
    passed("logged model ready")
    return str(logged.model_id)


def _upload(client: Any, model_id: str, beside: Mapping[str, bytes], folder: str) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        for path, content in beside.items():
            file = Path(scratch) / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        client.log_model_artifacts(model_id, scratch, artifact_path=folder)


def as_mlflow_model(served: Path, into: Path) -> Path:
    """An ordinary MLflow ONNX model (`mlflow models serve` loads it), with the whole served folder beside the graph."""
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
