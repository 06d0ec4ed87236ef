"""Which backbone and which way to fine-tune, before any training: learned from what earlier runs gained.

    rows = past_runs(rest)                      # MLflow
    told = suggest(rows, candidates)            # best first
    worth = rank_correlation(rows)              # of such an order, for the targets of earlier runs

A linear model, so that it can say why: the log of an arm's NDCG@10 over that of the control, both on validation users,
by the backbone's LogME and zero-shot ranking (pipeline/transfer/transferability.py), the size of target and sources,
the arm, and how the arm's worth changes with the size of the target. LogME compares backbones of one target: it is
read as its distance from the mean of that target's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.data.sequences import Array
from pipeline.registry.mlflow_rest import MlflowRest
from pipeline.runs.tracking import STAGE_TAG, experiment_id
from pipeline.transfer.params import SCRATCH
from pipeline.transfer.transferability import KNOWN

RIDGE = 3.0  # of standardised columns
ENOUGH = 12  # runs to learn from; with fewer LogME alone orders
LEAST = 3  # different arms of a target whose order is worth judging
VALID = "valid_ndcg10."  # of an arm, as the stage logs it


@dataclass(frozen=True)
class Candidate:
    """A backbone and an arm for one target.

    Attributes:
        target: of what the LogMEs may be compared.
        backbone: its name for people.
        logme, zero_shot: of `pipeline.transfer.transferability.known_before`.
        interactions: of the target's training part.
        source_items: of all catalogues that the backbone was trained on.
    """

    target: str
    backbone: str
    arm: str
    logme: float
    zero_shot: float
    interactions: float
    source_items: float


@dataclass(frozen=True)
class Past:
    """A candidate that was trained, and the log of its NDCG@10 over the control's."""

    candidate: Candidate
    gain: float


@dataclass(frozen=True)
class Suggestion:
    """A candidate, what is expected of it, and why.

    Attributes:
        gain: share by which it is expected to beat the control; None where too little is known to say.
    """

    candidate: Candidate
    gain: float | None
    why: str


def suggest(past: Sequence[Past], candidates: Sequence[Candidate]) -> list[Suggestion]:
    """Candidates, the most promising first; ties stay in their order."""
    if len(past) < ENOUGH or len({one.candidate.target for one in past}) < 2:
        words = f"by LogME alone: {len(past)} past runs, {ENOUGH} of two targets are needed to learn from"
        ordered = sorted(candidates, key=lambda one: (-one.logme, -one.zero_shot))
        return [Suggestion(one, None, f"LogME {one.logme:+.4f}; {words}") for one in ordered]
    arms = sorted({one.candidate.arm for one in past} | {one.arm for one in candidates})
    known, names = _columns([one.candidate for one in past], arms)
    centre, spread = known.mean(0), known.std(0)
    spread = np.where(spread > 0, spread, np.inf)  # a column that never varied says nothing
    standard = (known - centre) / spread
    gains = np.array([one.gain for one in past])
    squares = standard.T @ standard + RIDGE * np.eye(len(names))
    weights = np.linalg.solve(squares, standard.T @ (gains - gains.mean()))
    shares = (_columns(candidates, arms)[0] - centre) / spread * weights  # (n, columns)
    expected = gains.mean() + shares.sum(1)
    found = []
    for row in np.argsort(-expected, kind="stable"):
        strongest = np.argsort(-np.abs(shares[row]))[:3]
        why = ", ".join(f"{names[column]} {100 * math.expm1(shares[row, column]):+.1f} %" for column in strongest)
        found.append(Suggestion(candidates[row], math.expm1(expected[row]), why))
    return found


def rank_correlation(past: Sequence[Past]) -> float | None:
    """What such an order was worth: Spearman's correlation between the gains of a target's arms and those that are
    expected of them from the other targets; the mean over targets, None where no target can be left out.
    """
    from scipy.stats import spearmanr

    found = []
    for target in dict.fromkeys(one.candidate.target for one in past):
        mine = [one for one in past if one.candidate.target == target]
        others = [one for one in past if one.candidate.target != target]
        told = {one.candidate: one.gain for one in suggest(others, [one.candidate for one in mine])}
        expected = [told[one.candidate] for one in mine]
        gains = [one.gain for one in mine]
        if None not in expected and min(len(set(expected)), len(set(gains))) >= LEAST:
            found.append(float(spearmanr(expected, gains).statistic))
    return float(np.mean(found)) if found else None


def past_runs(rest: MlflowRest) -> list[Past]:
    """Every arm of every finished fine-tuning that was tried beside the control, as MLflow has it.

    Raises:
        PassingFault: MLflow does not answer.
    """
    query = f"tags.`{STAGE_TAG}` LIKE 'transfer@%' and attributes.status = 'FINISHED'"
    found = []
    for run in rest.runs(experiment_id(rest), query):
        told = {metric["key"]: float(metric["value"]) for metric in run["data"].get("metrics", [])}
        tags = {tag["key"]: tag["value"] for tag in run["data"]["tags"]}
        control = told.get(VALID + SCRATCH, 0.0)
        if control <= 0 or any(name not in told for name in KNOWN):
            continue  # no control, or of a release that did not log what is known before training
        facts = [told[name] for name in KNOWN]
        name = tags[STAGE_TAG].removeprefix("transfer@")
        for key, value in told.items():
            arm = key.removeprefix(VALID)
            if key.startswith(VALID) and arm != SCRATCH and value > 0:
                found.append(Past(Candidate(name, run["info"]["run_id"], arm, *facts), math.log(value / control)))
    return found


def _columns(candidates: Sequence[Candidate], arms: Sequence[str]) -> tuple[Array, list[str]]:
    """float64 [n, columns], and what the columns are called."""
    by_target: dict[str, list[float]] = {}
    for one in candidates:
        by_target.setdefault(one.target, []).append(one.logme)
    rows = []
    for one in candidates:
        size = math.log10(1 + one.interactions)
        is_arm = [float(one.arm == arm) for arm in arms]
        beside = one.logme - float(np.mean(by_target[one.target]))
        facts = [beside, math.log(1e-3 + one.zero_shot), size, math.log10(1 + one.source_items)]
        rows.append([*facts, *is_arm, *(size * value for value in is_arm)])
    names = ["LogME", "zero-shot ranking", "size of the target", "size of the sources"]
    return np.array(rows), [*names, *arms, *(f"{arm} at this size" for arm in arms)]
