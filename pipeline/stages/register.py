"""register@T: register one version, rank the champion on the same users, ask the gate, promote on a `promote` verdict.

Changes the world outside (MLflow, the promotion log), so it always runs, is keyed by the run, and repeating it changes
nothing. The champion is read here and not in `evaluate`, because what can be cached must be a function of files.
"""

from __future__ import annotations

import json
import logging
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import Field

from pipeline.registry.champion import UNKNOWN
from pipeline.runs.contract import Folders, Job, StageParams, Summary

log = logging.getLogger(__name__)


class Params(StageParams):
    """Parameters of `register`."""

    noninferiority_margin: float = Field(
        ge=0, lt=1, description="relative loss of NDCG@10 against the champion that still counts as equal"
    )
    confidence: float = Field(gt=0.5, lt=1, description="of the gate's two-sided intervals")
    guard_warm: float | None = Field(default=0.05, ge=0, description="relative loss allowed to warm users; or null")
    guard_cold_user: float | None = Field(default=0.1, ge=0, description="the same to users without history; or null")
    guard_cold_item: float | None = Field(default=0.1, ge=0, description="the same where the item is new; or null")
    guard_group: float | None = Field(default=0.1, ge=0, description="the same to each large user group; or null")
    guard_users: int = Field(default=200, ge=1, description="fewer test users than this are too few to judge a part")
    max_bytes: int | None = Field(default=None, ge=1, description="size of the served graph at most; null is no limit")
    max_p50_ms: float | None = Field(default=None, gt=0, description="median of one request at most; null is no limit")
    max_age_days: float | None = Field(
        default=None, ge=0, description="days from as_of to the opening of the run at most; null is no limit"
    )
    promote: bool = Field(description="may the alias move at all")
    seed: int


def run(inputs: Folders, outputs: Folders, params: Params, job: Job) -> Summary:
    """Writes `receipt.json`: the verdict with its table, the version, what was the champion before and after."""
    out = outputs["receipts/register"]
    if not job.run:
        return Summary("outside of a run nothing is registered; `warmstart run` registers")
    assert job.target is not None
    from pipeline.data.training_set import load_domain
    from pipeline.evaluation.evidence import read_evidence
    from pipeline.evaluation.gate import judge
    from pipeline.registry.champion import model_name
    from pipeline.registry.decision import Judging
    from pipeline.registry.mlflow_rest import MlflowRest
    from pipeline.registry.promotion import promote_if, repair
    from pipeline.registry.registration import register_version, registered
    from pipeline.runs.tracking import client, experiment_id
    from pipeline.settings import settings

    mlflow, rest = client(), MlflowRest(settings().mlflow_uri)
    repair(rest, job.target)
    run_id = job.run["run_id"]
    data = load_domain(inputs["data/training"], job.target)
    version = registered(rest, job.target, run_id)
    if version is None:
        wanted = _registration(inputs, params, job, data, model_name(job.target))
        version = register_version(mlflow, rest, wanted, experiment_id(rest))
    judging = Judging(
        mlflow, rest, version, read_evidence(inputs["reports/evaluation"]), data, _age(job.run), job.scratch
    )
    rules = _rules(params)
    if params.promote:
        verdict, entry, before = promote_if(
            rest, job.target, version.version, lambda champion: judging.verdict(champion, judge, rules), run_id
        )
        decision, reasons = verdict.verdict, verdict.reasons
    else:
        before, entry = judging.champion(), None
        verdict = judging.verdict(before, judge, rules)
        decision, reasons = verdict.verdict, verdict.reasons
        if decision == "promote":
            decision, reasons = "hold", ["register.promote is false", *reasons]
    judging.mark(decision)
    model = {
        "name": version.name,
        "version": version.version,
        "verdict": decision,
        "reasons": list(reasons),
        "champion_before": before,
        "champion": entry.to_version if entry else before,
        "decision": entry.sha256 if entry else None,
    }
    receipt = {
        "target": job.target,
        "model": version.name,
        "gate": verdict.as_dict(),
        **{name: value for name, value in model.items() if name != "name"},
    }
    (out / "receipt.json").write_text(json.dumps(receipt, indent=1, sort_keys=True) + "\n")
    found = f"{decision}: {version.name} version {version.version}; {'; '.join(reasons)}"
    promoted = decision == "promote"
    return Summary(found, {"promoted": float(promoted)}, promoted=promoted, facts={"model": model})


def _rules(params: Params) -> Any:
    from pipeline.evaluation.gate import GROUPS, Rules

    guards = {
        "user warm": params.guard_warm,
        "user cold": params.guard_cold_user,
        "item cold": params.guard_cold_item,
        GROUPS: params.guard_group,
    }
    return Rules(
        margin=params.noninferiority_margin,
        confidence=params.confidence,
        guards={part: margin for part, margin in guards.items() if margin is not None},
        guard_users=params.guard_users,
        max_bytes=params.max_bytes,
        max_p50_ms=params.max_p50_ms,
        max_age_days=params.max_age_days,
        seed=params.seed,
    )


def _registration(inputs: Folders, params: Params, job: Job, data: Any, name: str) -> Any:
    from pipeline.compression.served_model import ServedModel
    from pipeline.evaluation.latency import single_request_p50
    from pipeline.registry import champion as tag
    from pipeline.registry.model_card import Made, render_card
    from pipeline.registry.registration import Registration

    assert job.target is not None
    served, report = inputs["models/served"], inputs["reports/evaluation"]
    workspace = served.parents[2]  # models/served/<target>
    metrics = json.loads((report / "metrics.json").read_text("utf-8"))
    figure = next(row for row in metrics["models"] if row["name"] == "served")
    made = Made(
        run_id=job.run["run_id"],
        as_of=job.run["as_of"],
        commit=job.run["commit"],
        data=str(job.run.get("data", "")),
        manifest=_manifest(workspace, f"prune@{job.target}"),
        dataset_md5=_snapshot(workspace),
        n_bytes=int(figure["bytes"]),
        p50_ms=single_request_p50(ServedModel(served), data),
    )
    ndcg = figure["masked"]["ndcg10"]
    tags = {
        tag.AS_OF_TAG: made.as_of,
        tag.COMMIT_TAG: made.commit,
        tag.MANIFEST_TAG: made.manifest,
        tag.DATASET_TAG: made.dataset_md5,
        tag.BYTES_TAG: str(made.n_bytes),
        tag.P50_TAG: f"{made.p50_ms:.4f}",
        tag.NDCG_TAG: f"{ndcg['value']:.4f} [{ndcg['low']:.4f}, {ndcg['high']:.4f}]" if ndcg["n"] else tag.UNKNOWN,
    }
    card = render_card(name, metrics, made, params.guard_users)
    beside = {f"evaluation/{file}": (report / file).read_bytes() for file in ("metrics.json", "per_user.parquet")}
    return Registration(job.target, made.run_id, served, beside | {"model_card.md": card.encode()}, tags, card)


def _manifest(workspace: Path, address: str) -> str:
    """sha256 of the manifest of a stage of this run; `UNKNOWN` where a stage was run by hand and there is none."""
    path = workspace / "run" / "manifests" / f"{address}.json"
    return str(json.loads(path.read_text())["sha256"]) if path.exists() else UNKNOWN


def _snapshot(workspace: Path) -> str:
    from pipeline.runs.wrapper import locked_digests

    return locked_digests(workspace).get("data/snapshot", UNKNOWN)


def _age(run: Any) -> float | None:
    """Days from as_of to the opening of the run: the same for every attempt of it."""
    if "opened" not in run:
        return None
    opened, as_of = (datetime.fromisoformat(str(run[key])) for key in ("opened", "as_of"))
    return (opened - as_of).total_seconds() / 86_400
