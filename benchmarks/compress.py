"""`make bench-compress`: how much smaller and faster a served model is than its teacher, and what it keeps.

beauty2014 and ml-latest-small, each its own source, three seeds; leave-one-out, every item ranked, seen ones masked,
one thread, hashed texts. Teacher, student and what is served are those of `USED`: on beauty2014 the teacher is that of
`make bench-model` with four members, and all make one model.

* `DATASET.student.params_ratio`: parameters of the teacher over the student's, item tables included; a coded table's
  codes are bytes and not learned, so that beside it stands `….student.bytes_ratio`, of the files;
* `….student.retention`, `_low`, `_high`: NDCG@10 over the teacher's, 95 % bootstrap over users, of whom each counts
  once, with the mean of the seeds; beside it `….untaught.retention` and `….teacher_sized.retention`, the control arms';
* `….student.gain_over_untaught_pct`, `_low`, `_high`: the taught student over the same one without its teacher;
* `….pruned.retention`: half of the heads and channels removed, after recovery, over the student;
* `….served.retention`, `_low`, `.bytes_ratio`, `.p50_ms`, `.speedup`: pruned and rounded, in ONNX Runtime; bytes of the
  files and median of one request, over the teacher's in torch, measured one after the other;
* `….pruned.top20_same`, `….served.top20_overlap`: share of test users with the first 20 items of torch in the same
  order, and of these items that are still there after rounding.

Every stage that is done stays in `$WARMSTART_HOME/bench/compress/`; a run that was killed goes on there, and a stage
with other settings is run anew.
`--only beauty2014-1` runs some parts, `--measure` measures finished ones again, `--again` forgets them all. Raw data:
`$WARMSTART_DATA` (../shared/data without).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["POLARS_MAX_THREADS"] = "1"

import numpy as np
import polars as pl
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from figures import Figure, write_figures
from model import RECIPE
from training_sets import Shop, read_tables, write_training_set

from pipeline.compression.agreement import overlap, same_order
from pipeline.compression.served_folder import FIRST
from pipeline.compression.served_graph import ServedGraph
from pipeline.data.adapters import amazon, movielens
from pipeline.data.training_set import DomainData, load_domain
from pipeline.evaluation.retention import retention
from pipeline.graph import load_graph
from pipeline.runs.attempt import write_json
from pipeline.runs.parameters import apply_overrides, read_params
from pipeline.settings import CHECKOUT, Settings
from pipeline.sweep.points import (
    Figures,
    Source,
    figures_of_served,
    figures_of_torch,
    make_served,
    make_student,
    run_stage,
)
from pipeline.training.domains import open_domain
from pipeline.training.weights import load_model

SEEDS = (1, 2, 3)
STAGES = ("teacher", "student", "pruned", "served")
DATASETS = {"beauty2014": "amazon/beauty2014", "movielens": "ml-latest-small"}
DENSE = ("prune.keep_heads=1", "prune.keep_channels=1", "prune.recovery_epochs=0")
SERVED = (*DENSE, "prune.rows=codes", "prune.scores=int8", "prune.linears=int8_weights")  # of what is pruned already
CODES = (
    "distill.table=codes", "distill.id_codes=256", "distill.id_alone=true", "distill.attribute_buckets=512",
    "distill.profile_buckets=8", "distill.id_dropout=0.0", "distill.patience=2", "distill.validation_users=25000",
)  # fmt: skip
FINE_TUNING = ("transfer.epochs=1", "transfer.learning_rate=0.0003")
USED: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "beauty2014": {
        "teacher": (*RECIPE, "pretrain.members=4", *FINE_TUNING),
        "student": (
            *CODES, "distill.width=192", "distill.heads=4", "distill.id_width=192", "distill.id_parts=96",
            "distill.epochs=8", "distill.batch_users=128", "distill.learning_rate=0.001", "distill.weight_decay=0.5",
            "distill.average_epochs=1.5", "distill.dropout=0.1", "distill.weight=4", "distill.temperature=1",
            "distill.top=100", "distill.rest=1024",
        ),
        "pruned": (
            "prune.recovery_epochs=4", "prune.max_steps=0", "prune.batch_users=128", "prune.learning_rate=0.0005",
            "prune.weight_decay=0.3", "prune.weight=3", "prune.validation_users=10000",
        ),
        "served": SERVED,
    },
    "movielens": {  # longer histories, fewer users: the teacher has one trunk
        "teacher": (
            "pretrain.width=128", "pretrain.recency=true", "pretrain.item_statistics=false", "pretrain.dropout=0.3",
            "pretrain.id_dropout=0.0", "pretrain.weight_decay=0.1", "pretrain.average=0.99", "pretrain.epochs=10",
            "pretrain.max_steps=0", "pretrain.full_softmax_items=5000", "pretrain.validation_users=3000",
            "pretrain.patience=2", *FINE_TUNING,
        ),
        "student": (
            *CODES, "distill.width=72", "distill.id_width=72", "distill.id_parts=24", "distill.epochs=10",
            "distill.batch_users=64", "distill.learning_rate=0.002", "distill.average=0.995", "distill.dropout=0.2",
            "distill.weight=0.3", "distill.temperature=0.5", "distill.rest=512",
        ),
        "pruned": ("prune.validation_users=3000",),
        "served": SERVED,
    },
}  # fmt: skip
SAMPLES, CONFIDENCE = 2000, 0.95
Part = dict[str, Any]


def main() -> None:
    """Run what is not done yet, and write the figures of what is there."""
    words = argparse.ArgumentParser(description="How much smaller, how much faster, and what is kept.")
    words.add_argument("--only", nargs="*", help="parts: beauty2014-1 … -3, movielens-1 … -3")
    words.add_argument("--measure", action="store_true", help="measure finished parts again, without training")
    words.add_argument("--again", action="store_true", help="forget finished parts")
    asked = words.parse_args()
    logging.basicConfig(level="WARNING")
    kept = Settings().home / "bench" / "compress"
    if asked.again:
        shutil.rmtree(kept, ignore_errors=True)
    raw = Path(os.environ.get("WARMSTART_DATA", CHECKOUT.parent / "shared" / "data"))
    done: dict[str, Part] = {}
    for seed in SEEDS:
        for dataset, folder in DATASETS.items():
            name = f"{dataset}-{seed}"
            path, used = kept / f"{name}.json", _mark(*(word for stage in STAGES for word in USED[dataset][stage]))
            if path.exists() and json.loads(path.read_text())["settings"] == used:
                done[name] = json.loads(path.read_text())
            if (asked.only and name not in asked.only) or (name in done and not asked.measure):
                continue
            if not (raw / folder).exists():
                print(f"{name} is left out: {raw / folder} is not there (WARMSTART_DATA)", flush=True)
                continue
            print(name, flush=True)
            done[name] = {"settings": used, **part(kept / name, dataset, raw, seed)}
            write_json(path, done[name])
    write_figures("compress", figures(done))


def _mark(*settings: str) -> str:
    return hashlib.sha256(" ".join(settings).encode()).hexdigest()[:8]


def prepared(root: Path, dataset: str, raw: Path, seed: int) -> Source:
    """The training set of one part, and its teacher."""
    if not (root / "set").exists():
        shutil.rmtree(root / "set.new", ignore_errors=True)
        if dataset == "movielens":
            written = movielens.prepare("ml-latest-small", raw / DATASETS[dataset], root / "raw", "leave_one_out")
        else:
            written = amazon.prepare(raw / "amazon", root / "raw", [dataset], [dataset])
        ((target, (visits, items)),) = read_tables(written).items()
        write_training_set(root / "set.new", {target: Shop(("source", "target"), visits, items)}, seed)
        (root / "set.new").rename(root / "set")
    (target,) = json.loads((root / "set" / "training" / "dataset.json").read_text())["targets"]
    made = root / f"teacher-{_mark(*USED[dataset]['teacher'])}"
    inputs = {"data/training": root / "set" / "training", "data/item_vectors": root / "set" / "vectors"}
    inputs |= {"models/backbone": made / "backbone", "data/synthetic": root / "synthetic"}
    inputs |= {"models/teacher": made / "teacher"}
    params = apply_overrides(read_params(CHECKOUT / "params.yaml"), [f"seed={seed}"])
    source = Source(target, inputs, params, load_graph(CHECKOUT / "dvc.yaml"))
    (root / "synthetic").mkdir(exist_ok=True)
    reports = {"reports/transfer": made / "transfer-report"}
    for stage, output, also in (("pretrain", "models/backbone", {}), ("transfer", "models/teacher", reports)):
        outputs = {output: inputs[output], **also}
        run_stage(source, stage, USED[dataset]["teacher"], inputs, outputs, made / f"{stage}-run")
    return source


def part(root: Path, dataset: str, raw: Path, seed: int) -> Part:
    """One dataset and seed."""
    source = prepared(root, dataset, raw, seed)
    teacher = source.inputs["models/teacher"]
    of_student, of_pruned, of_served = (USED[dataset][stage] for stage in STAGES[1:])
    run = teacher.parent / f"student-{_mark(*of_student)}"
    make_student(source, of_student, run)
    student = run / "student"
    pruned = make_served(source, student, of_pruned, run / f"pruned-{_mark(*of_pruned)}")
    served = make_served(source, pruned, of_served, pruned.parent / f"served-{_mark(*of_served)}")
    per_user = pl.read_parquet(run / "report" / "per_user.parquet")
    data = load_domain(source.inputs["data/training"], source.target)
    return {
        "teacher": _told(figures_of_torch(source, teacher, data)),
        "student": _told(figures_of_torch(source, student, data)),
        "pruned": _told(figures_of_served(pruned, data)),
        "served": _told(figures_of_served(served, data)),
        "arms": {arm: per_user[arm].to_list() for arm in ("taught", "untaught", "teacher-sized")},
        "top20_same": same_order(_in_torch(pruned, data, source), pruned, data, FIRST),
        "top20_overlap": overlap(_in_torch(served, data, source), served, data, FIRST),
    }


def _in_torch(served: Path, data: DomainData, source: Source) -> ServedGraph:
    model = load_model(served)
    domain = open_domain(data, source.inputs["data/item_vectors"], model.spec, torch.device("cpu"))
    return ServedGraph(model, domain, FIRST)


def _told(found: Figures) -> Part:
    return {
        "ndcg": found.ndcg.round(6).tolist(),
        "parameters": found.parameters,
        "bytes": found.bytes,
        "p50_ms": found.p50_ms,
    }


def figures(done: Mapping[str, Part]) -> list[Figure]:
    """Every figure that the parts allow."""
    rows: list[Figure] = []
    for dataset in DATASETS:
        parts = [part for name, part in done.items() if name.startswith(f"{dataset}-")]
        if not parts:
            continue
        of = {name: [part[name] for part in parts] for name in ("teacher", "student", "pruned", "served")}
        # a seed more is no user more
        columns = {name: np.mean([one["ndcg"] for one in ones], axis=0) for name, ones in of.items()}
        columns |= {arm: np.mean([part["arms"][arm] for part in parts], axis=0) for arm in parts[0]["arms"]}

        def ratio(above: str, below: str, key: str, of: Mapping[str, Sequence[Part]] = of) -> float:
            pairs = zip(of[above], of[below], strict=True)
            return float(np.mean([one[key] / other[key] for one, other in pairs]))

        rows += [
            (f"{dataset}.seeds", float(len(parts)), ""),
            (f"{dataset}.teacher.ndcg10", float(columns["teacher"].mean()), ""),
            (f"{dataset}.student.params_ratio", ratio("teacher", "student", "parameters"), "x"),
            (f"{dataset}.student.bytes_ratio", ratio("teacher", "student", "bytes"), "x"),
            *_kept(f"{dataset}.student.retention", columns["student"], columns["teacher"]),
            *_kept(f"{dataset}.untaught.retention", columns["untaught"], columns["teacher"]),
            *_kept(f"{dataset}.teacher_sized.retention", columns["teacher-sized"], columns["teacher"]),
            *_kept(f"{dataset}.student.gain_over_untaught_pct", columns["taught"], columns["untaught"], gain=True),
            *_kept(f"{dataset}.pruned.retention", columns["pruned"], columns["student"]),
            *_kept(f"{dataset}.served.retention", columns["served"], columns["teacher"]),
            (f"{dataset}.served.bytes_ratio", ratio("teacher", "served", "bytes"), "x"),
            (f"{dataset}.pruned.top20_same", float(np.mean([part["top20_same"] for part in parts])), ""),
            (f"{dataset}.served.top20_overlap", float(np.mean([part["top20_overlap"] for part in parts])), ""),
            (f"{dataset}.served.p50_ms", float(np.mean([one["p50_ms"] for one in of["served"]])), "ms"),
            (f"{dataset}.served.speedup", ratio("teacher", "served", "p50_ms"), "x"),
        ]
    return rows


def _kept(name: str, ours: np.ndarray[Any, Any], theirs: np.ndarray[Any, Any], gain: bool = False) -> list[Figure]:
    found = retention(ours, theirs, SAMPLES, CONFIDENCE, 7)
    if found is None:
        return []
    values = (found.value, found.low, found.high)
    return [
        (name + ending, 100 * (value - 1) if gain else value, "%" if gain else "x")
        for ending, value in zip(("", "_low", "_high"), values, strict=True)
    ]


if __name__ == "__main__":
    main()
