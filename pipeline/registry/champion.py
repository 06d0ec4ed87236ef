"""A registered model version as Warmstart uses MLflow's registry: its tags, its files, the alias of the champion."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.settings import settings

ALIAS = "champion"
PREFIX = "rec-"
RUN_TAG = "warmstart.run_id"
CONTENT_TAG = "warmstart.content"
AS_OF_TAG = "warmstart.as_of"
COMMIT_TAG = "warmstart.commit"
MANIFEST_TAG = "warmstart.manifest"  # sha256 of the manifest of the attempt that made the served model
DATASET_TAG = "warmstart.dataset_md5"  # of data/snapshot
FILES_TAG = "warmstart.files"  # folder in the version's files with its card, evaluation and verdicts
BYTES_TAG = "warmstart.bytes"
P50_TAG = "warmstart.p50_ms"
NDCG_TAG = "warmstart.ndcg10"
VERDICT_TAG = "warmstart.verdict"
PROMOTION_TAG = "warmstart.promotion"  # sha256 of the log's entry that made this version champion
UNKNOWN = "none"  # a tag's value where there is nothing to name, e.g. the manifest outside of a run


@dataclass(frozen=True)
class Version:
    """A registered model version.

    Attributes:
        name: `rec-<target>`.
        version: its number.
        model_id: MLflow's id of the logged model that holds its files.
        tags: as MLflow has them.
        description: the model card, or its beginning.
    """

    name: str
    version: int
    model_id: str
    tags: Mapping[str, str] = field(default_factory=dict)
    description: str = ""

    @property
    def run_id(self) -> str:
        """The run that made it."""
        return self.tags.get(RUN_TAG, "")

    @property
    def content(self) -> str:
        """Digest of the served folder (`content_digest`)."""
        return self.tags.get(CONTENT_TAG, "")

    @property
    def as_of(self) -> str:
        """What it has learned up to, ISO 8601 UTC."""
        return self.tags.get(AS_OF_TAG, "")

    @property
    def files(self) -> str:
        """Folder within the version's files of what belongs to this version alone."""
        return self.tags.get(FILES_TAG, "")

    def figure(self, tag: str) -> float | None:
        """A tag that is a number, None where it is missing or none."""
        try:
            return float(self.tags[tag])
        except (KeyError, ValueError):
            return None


def model_name(target: str) -> str:
    """Name of the registered model that serves a target domain."""
    return f"{PREFIX}{target}"


def target_of(name: str) -> str:
    """The target domain that a registered model serves."""
    return name.removeprefix(PREFIX)


def version_of(answer: Mapping[str, Any]) -> Version:
    """From an answer of MLflow's REST API."""
    tags = {tag["key"]: tag.get("value", "") for tag in answer.get("tags", [])}
    model_id = str(answer.get("source", "")).removeprefix("models:/")
    return Version(answer["name"], int(answer["version"]), model_id, tags, answer.get("description", ""))


def download(version: Version, path: str, into: Path) -> Path:
    """A folder or file of a version's files, as it was when it was registered; "served" is the model."""
    from mlflow.artifacts import download_artifacts

    from pipeline.runs.tracking import client

    # `models:/…` would be looked up at MLflow's global address, which every child process inherits once it is set
    uri = client().get_model_version_download_uri(version.name, str(version.version))
    # the slash at the end: what is in the folder, not the folder
    return Path(download_artifacts(f"{uri}/", dst_path=str(into), tracking_uri=settings().mlflow_uri)) / path


def content_digest(served: Path) -> str:
    """sha256 over names and contents of a served folder; equal for equal models, whichever run made them."""
    digest = hashlib.sha256()
    for path in sorted(p for p in served.rglob("*") if p.is_file()):
        digest.update(str(path.relative_to(served)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
