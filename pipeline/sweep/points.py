"""One point of a sweep: a student and its export made by the stages themselves, and what they are worth."""

from __future__ import annotations

import importlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.compression.served_model import MODEL, ServedModel
from pipeline.data.sequences import Array
from pipeline.data.training_set import DomainData
from pipeline.evaluation.latency import single_request_p50
from pipeline.evaluation.metrics import ndcg
from pipeline.evaluation.rank_served import ServedScorer
from pipeline.evaluation.ranking import rank_holdout
from pipeline.graph import Graph
from pipeline.runs.contract import Job
from pipeline.runs.parameters import apply_overrides, stage_params
from pipeline.sweep.torch_latency import torch_p50
from pipeline.training.domains import open_domain
from pipeline.training.scoring import ModelScorer
from pipeline.training.weights import WEIGHTS, load_model

DONE = "done"  # beside what a stage wrote whole


@dataclass(frozen=True)
class Source:
    """A teacher and its data.

    Attributes:
        inputs: folders of data/training, data/item_vectors and models/teacher of one target.
        params: params.yaml.
    """

    target: str
    inputs: Mapping[str, Path]
    params: Mapping[str, Any]
    graph: Graph


@dataclass(frozen=True)
class Figures:
    """What a model is worth and what it costs.

    Attributes:
        ndcg: NDCG@10 of every test user, seen items masked, float64 [n].
        bytes: of the file that is served or loaded.
        p50_ms: of one request on one thread.
    """

    ndcg: Array
    parameters: int
    bytes: int
    p50_ms: float


def make_student(source: Source, overrides: Sequence[str], folder: Path) -> dict[str, Any]:
    """Run distill with changed parameters, unless the folder holds it whole; its distill.json.

    Args:
        overrides: as `distill.width=16`.
        folder: gets student/ and report/.
    """
    outputs = {"models/student": folder / "student", "reports/distillation": folder / "report"}
    run_stage(source, "distill", overrides, source.inputs, outputs, folder)
    found: dict[str, Any] = json.loads((folder / "report" / "distill.json").read_text("utf-8"))
    return found


def make_served(source: Source, student: Path, overrides: Sequence[str], folder: Path) -> Path:
    """Run prune on a student with changed parameters, unless the folder holds it whole; the served model's folder."""
    inputs = {**source.inputs, "models/student": student}
    run_stage(source, "prune", overrides, inputs, {"models/served": folder / "served"}, folder)
    return folder / "served"


def run_stage(
    source: Source,
    name: str,
    overrides: Sequence[str],
    inputs: Mapping[str, Path],
    outputs: Mapping[str, Path],
    folder: Path,
) -> None:
    """Run one stage with changed parameters, unless `folder` says that it has been run to the end.

    Args:
        folder: of this run alone; what it holds of a run that was killed lets the stage resume.
    """
    if (folder / DONE).exists():
        return
    for path in outputs.values():
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
    params = stage_params(source.graph.stages[name], apply_overrides(source.params, overrides))
    stage = importlib.import_module(f"pipeline.stages.{name}")
    stage.run(inputs, outputs, params, Job(folder / "scratch", source.target, 1))
    shutil.rmtree(folder / "scratch", ignore_errors=True)
    (folder / DONE).touch()


def figures_of_torch(source: Source, model_folder: Path, data: DomainData) -> Figures:
    """Of a model in torch."""
    model = load_model(model_folder)
    domain = open_domain(data, source.inputs["data/item_vectors"], model.spec, next(model.parameters()).device)
    ranks = rank_holdout(ModelScorer(model, domain), data.holdout("test"), data.n_items)
    size = (model_folder / WEIGHTS).stat().st_size
    return Figures(ndcg(ranks.masked, 10), model.n_parameters, size, torch_p50(model, domain))


def figures_of_served(served_folder: Path, data: DomainData) -> Figures:
    """Of an exported model in ONNX Runtime."""
    served = ServedModel(served_folder, threads=1)
    ranks = rank_holdout(ServedScorer(served, data), data.holdout("test"), data.n_items)
    size = (served_folder / MODEL).stat().st_size
    return Figures(ndcg(ranks.masked, 10), served.about["served"]["parameters"], size, single_request_p50(served, data))
