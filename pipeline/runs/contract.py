"""What every stage promises: `run(inputs, outputs, params, job) -> Summary`.

A stage knows files and parameters and nothing of Airflow, DVC or containers. `pipeline.runs.wrapper` calls it:

* `inputs["data/valid"]`: the folder behind that dependency of `dvc.yaml`; the target's own folder for per-target
  paths (`models/teacher` is `…/models/teacher/<target>`).
* `outputs["models/backbone"]`: an existing, empty, temporary folder. It is published under its final path, whole,
  after `run` returns. Whatever stands in it when `run` raises is kept for a person under `failed/<stage>/`.
* `params`: the stage's own typed, frozen parameters.
* `job`: what differs between two executions of the same stage with the same result.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Folders = Mapping[str, Path]


def _in_utc(moment: datetime) -> datetime:
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)


AsOf = Annotated[
    datetime, AfterValidator(_in_utc), Field(description="exclusive upper bound in UTC; without a zone it is UTC")
]


class StageParams(BaseModel):
    """Base of every stage's parameters: typed, frozen, and an unknown name is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True)
class Job:
    """One execution of a stage.

    Attributes:
        scratch: a folder that survives a kill and is the same for the retry of the same work (same code, parameters
            and inputs). Checkpoints live here.
        target: the target domain of a per-target stage, else None.
        threads: how many CPU threads the stage may use.
        run: the run's record (`run.yaml`: run_id, commit, as_of, mlflow_run_id, …); empty outside of a workspace.
    """

    scratch: Path
    target: str | None = None
    threads: int = 1
    run: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Summary:
    """What a stage found, for people and for tracking. Deterministic: it is part of the stage's output.

    Attributes:
        found: one line, e.g. "48,112 interactions, 311 quarantined (0.6 %)".
        metrics: figures by name; finite numbers only.
        promoted: only for `register`: False ends the task with 99 (skipped, not failed).
        facts: what only the stage knows and the manifest tells (sources, validation, features, model), as JSON;
            see `pipeline.runs.manifest`.
    """

    found: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    promoted: bool | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
