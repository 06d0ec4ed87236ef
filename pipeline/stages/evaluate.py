"""evaluate@T: full ranking of every model and baseline, seen items masked and unmasked, with slices and intervals.

    warmstart stage evaluate --target harbour

Nothing is sampled: every test user's held-out item is ranked among all items of the domain. The served model is
ranked through ONNX Runtime, as a server would run it.
"""

from __future__ import annotations

import json
import logging
from typing import Literal, get_args

from pydantic import Field

from pipeline.runs.contract import Folders, Job, StageParams, Summary

log = logging.getLogger(__name__)

TORCH_MODELS = ("backbone", "teacher", "student")
Baseline = Literal["recent popularity", "item-kNN", "EASE", "ALS", "BPR", "content-kNN"]
TOP = 10  # items of the lists whose coverage, novelty and popularity are told


class Params(StageParams):
    """Parameters of the intervals and of the table."""

    seed: int = Field(description="of the bootstrap")
    bootstrap_samples: int = Field(ge=1, description="resamplings of the test users behind an interval")
    confidence: float = Field(gt=0.5, lt=1, description="of the intervals")
    baselines: tuple[Baseline, ...] = Field(
        default=get_args(Baseline), description="simple rankers of the table, beside popularity, which is always there"
    )


def run(inputs: Folders, outputs: Folders, params: Params, job: Job) -> Summary:
    """Write metrics.json, per_user.parquet and report.html.

    Raises:
        BadConfiguration: a model's folder is incomplete or belongs to another training set.
    """
    import numpy as np

    from pipeline.compression.served_model import ServedModel
    from pipeline.data.training_set import load_dataset, load_domain
    from pipeline.evaluation.baselines import fit_baselines
    from pipeline.evaluation.evidence import protocol_of, test_set_digest, user_groups
    from pipeline.evaluation.lists import about_lists
    from pipeline.evaluation.rank_served import ServedScorer
    from pipeline.evaluation.ranking import rank_holdout
    from pipeline.evaluation.report import render_report
    from pipeline.evaluation.table import (
        Interval,
        Ranked,
        differences,
        model_rows,
        oracle_ranks,
        per_user_table,
    )
    from pipeline.models.inherit import adapted
    from pipeline.training.domains import content_vectors, modalities, open_domain
    from pipeline.training.randomness import make_deterministic
    from pipeline.training.scoring import ModelScorer
    from pipeline.training.weights import load_model

    assert job.target is not None
    training, vectors = inputs["data/training"], inputs["data/item_vectors"]
    dataset, data = load_dataset(training), load_domain(training, job.target)
    models = {name: load_model(inputs[f"models/{name}"]) for name in TORCH_MODELS}
    device = make_deterministic(job.threads, models["teacher"].spec.width)
    test = data.holdout("test")
    log.info("evaluate@%s: %s test users, %s items", job.target, f"{len(test):,}", f"{data.n_items:,}")

    text_width = dict(modalities(vectors)).get("text")
    text = content_vectors(vectors, data, "text", text_width) if text_width else None
    ranked = [
        Ranked(name, "baseline", rank_holdout(scorer, test, data.n_items, top=TOP))
        for name, scorer in fit_baselines(data, text, dataset["clock"], params.baselines, params.seed).items()
    ]
    for name, model in models.items():
        if name == "backbone":  # zero-shot: what it knows of the target without fine-tuning
            model = adapted(model, (data.name, data.n_items), 0.0, 0.0).eval()
        scorer = ModelScorer(model.to(device), open_domain(data, vectors, model.spec, device))
        size = (inputs[f"models/{name}"] / "model.safetensors").stat().st_size
        ranks = rank_holdout(scorer, test, data.n_items, top=TOP)
        ranked.append(Ranked(name, "model", ranks, model.n_parameters, size))
        log.info("evaluate@%s: %s ranked", job.target, name)
    served = ServedModel(inputs["models/served"], threads=job.threads)
    size = (inputs["models/served"] / "model.onnx").stat().st_size
    ranks = rank_holdout(ServedScorer(served, data), test, data.n_items, top=TOP)
    ranked.append(Ranked("served", "model", ranks, served.about["served"]["parameters"], size))
    oracle = oracle_ranks(test)
    if oracle is not None:
        ranked.append(Ranked("oracle (known truth)", "oracle", oracle, masked_only=True))

    interval = Interval(params.bootstrap_samples, params.confidence, params.seed)
    rows = model_rows(ranked, test, interval)
    counts = np.bincount(data.items, minlength=data.n_items + 1)
    for row, found in zip(rows, ranked, strict=True):
        if found.ranks.top is not None:
            row["lists"] = about_lists(found.ranks.top, counts)
    metrics = {
        "target": job.target,
        "protocol": data.protocol,
        # two figures may be compared when these two are equal; the gate looks
        "protocol_words": protocol_of(data),
        "test_set": test_set_digest(data),
        "n": len(test),
        "n_items": data.n_items,
        "confidence": params.confidence,
        "models": rows,
        "differences": differences(ranked, "served", interval),
    }
    out = outputs["reports/evaluation"]
    (out / "metrics.json").write_text(json.dumps(metrics, indent=1, sort_keys=True) + "\n", "utf-8")
    per_user_table(ranked, test, user_groups(data)).write_parquet(
        out / "per_user.parquet", compression="zstd", statistics=False
    )
    (out / "report.html").write_text(render_report(metrics), "utf-8")
    return _summary(metrics)


def _summary(metrics: dict) -> Summary:  # type: ignore[type-arg]  # JSON
    rows = {row["name"]: row for row in metrics["models"]}
    values = {name: row["masked"]["ndcg10"] for name, row in rows.items()}
    if metrics["n"] == 0:
        return Summary(f"{metrics['target']} has no test users: nothing can be said of any model", {"n": 0})
    best = max((name for name, row in rows.items() if row["kind"] == "baseline"), key=lambda n: values[n]["value"])
    served = values["served"]
    found = (
        f"served NDCG@10 {served['value']:.4f} [{served['low']:.4f}, {served['high']:.4f}], {metrics['n']:,} users, "
        f"seen items masked; teacher {values['teacher']['value']:.4f}, {best} {values[best]['value']:.4f}"
    )
    figures = {f"{name}.ndcg10".replace(" ", "_"): value["value"] for name, value in values.items()}
    return Summary(found, {"n": metrics["n"], **{k: v for k, v in figures.items() if "(" not in k}})
