"""register@T: rank the champion on the same users, ask the gate, register one version, promote on a `promote` verdict.

Changes the world outside (MLflow), so it always runs, is keyed by the run, and repeating it changes nothing. The
champion is read here and not in `evaluate`, because what can be cached must be a function of files.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from pydantic import Field

from pipeline.exit_codes import DataBrokeContract
from pipeline.runs.contract import Folders, Job, StageParams, Summary

log = logging.getLogger(__name__)

# the column of per_user.parquet and the row of metrics.json that the gate judges
CHALLENGER = "served"


class Params(StageParams):
    """Parameters of `register`."""

    noninferiority_margin: float = Field(
        ge=0, lt=1, description="relative loss of NDCG@10 against the champion that still counts as equal"
    )
    confidence: float = Field(gt=0.5, lt=1, description="of the gate's intervals")
    promote: bool = Field(description="may the alias move at all")
    seed: int


def run(inputs: Folders, outputs: Folders, params: Params, job: Job) -> Summary:
    """Writes `receipt.json`: the verdict with its table, the version, what was the champion before and after."""
    out = outputs["receipts/register"]
    if not job.run:
        return Summary("outside of a run nothing is registered; `warmstart run` registers")
    assert job.target is not None
    from pipeline.evaluation.gate import judge
    from pipeline.registry import champion as registry
    from pipeline.runs.tracking import client, experiment_id

    mlflow = client()
    served = inputs["models/served"]
    with registry.registry_lock(job.target):
        before = registry.champion_of(mlflow, job.target)
        version = registry.register_version(mlflow, job.target, dict(job.run), served, experiment_id(mlflow), before)
        same = before is not None and before.content == version.content
        challenger, baselines, users = _challenger(inputs["reports/evaluation"])
        champion = None
        if before is not None and not same:
            champion = _rank_champion(registry.download(before, job.scratch), inputs, job.target, users)
        verdict = judge(
            challenger,
            baselines,
            champion,
            margin=params.noninferiority_margin,
            confidence=params.confidence,
            seed=params.seed,
        )
        decision: str = verdict.verdict
        reasons = list(verdict.reasons)
        if before is not None and decision == "promote":
            decision, reasons = _against_champion(before, version, reasons)
        if decision == "promote" and not params.promote:
            decision, reasons = "hold", ["register.promote is false", *reasons]
        if decision == "promote":
            registry.promote(mlflow, version)
    receipt: dict[str, Any] = {
        "target": job.target,
        "model": version.name,
        "version": version.version,
        "verdict": decision,
        "reasons": reasons,
        "gate": verdict.as_dict(),
        "champion_before": before.version if before else None,
        "champion": version.version if decision == "promote" else (before.version if before else None),
    }
    (out / "receipt.json").write_text(json.dumps(receipt, indent=1, sort_keys=True) + "\n")
    found = f"{decision}: {version.name} version {version.version}; {'; '.join(reasons)}"
    return Summary(found, {"promoted": float(decision == "promote")}, promoted=decision == "promote")


def _against_champion(before: Any, version: Any, reasons: list[str]) -> tuple[str, list[str]]:
    """What the figures cannot know: this very model serves already, or a newer one does (a backfill)."""
    if before.version == version.version:
        return "promote", ["promoted by an earlier attempt of this run", *reasons]
    if before.content == version.content:
        return "hold", [f"the same model already serves as version {before.version}"]
    if before.as_of > version.as_of:
        return "hold", [f"the champion has learned up to {before.as_of}, this model only to {version.as_of}"]
    return "promote", reasons


def _challenger(report: Path) -> tuple[Any, dict[str, Any], Any]:
    """NDCG@10 of each test user: (challenger (n,), baselines by name, user_index (n,))."""
    import polars as pl

    kinds = {m["name"]: m["kind"] for m in json.loads((report / "metrics.json").read_text())["models"]}
    users = pl.read_parquet(report / "per_user.parquet")
    if CHALLENGER not in users.columns:
        raise DataBrokeContract(f"{report / 'per_user.parquet'} has no column {CHALLENGER!r}; run evaluate again")
    names = [name for name, kind in kinds.items() if kind == "baseline" and name in users.columns]
    baselines = {name: users[name].to_numpy() for name in names}
    return users[CHALLENGER].to_numpy(), baselines, users["user_index"].to_numpy()


def _rank_champion(served: Path, inputs: Folders, target: str, users: Any) -> Any:
    from pipeline.data.training_set import load_domain
    from pipeline.evaluation.rank_served import per_user_metrics

    log.info("ranking the champion on the same %d users", len(users))
    ranked = per_user_metrics(served, load_domain(inputs["data/training"], target), "test")
    by_user = dict(zip(ranked["user_index"], ranked["ndcg10"], strict=True))
    import numpy as np

    return np.array([by_user.get(user, np.nan) for user in users])
