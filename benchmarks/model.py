"""`make bench-model`: how well the model ranks on the shops of the literature, and what it costs.

Real data through `WARMSTART_DATA` (default `../shared/data`); without it only the speeds are measured.
Leave-one-out, every item ranked, one thread, CPU-seconds of the process. One recipe for all shops (`RECIPE`), chosen on
validation rows of beauty2014 and scientific2018; nothing but the shop itself is learned from.

* `prepare.interactions_per_cpu_second`: ten million interactions, from a table to flat arrays on the disk;
* `prepare.memory_x`: the most memory that took, the table counted, by the bytes of the table;
* `train.positions_per_cpu_second`: targets of whole training steps, 64 wide, 2 layers, length 50, 1,700 items;
* `rank.users_per_cpu_second_at_…`: exact ranks in both mask modes and the first 20, states 64 wide;
* `gpu.mfu`: where there is a GPU of `PEAKS`, the share of its peak that training a trunk of 100M parameters uses;
* `SHOP.hr10_masked`, `SHOP.ndcg10_masked`: on the test users, seen items masked, a mean of three seeds;
* `SHOP.cpu_seconds`: of training up to the best validation point, its validations counted.

Every part runs in a process of its own and leaves its figures in `$WARMSTART_HOME/bench/model/`; a part whose figures
are there is not run again (`--again PART …` trains it again on the same prepared shop, `--parts` runs some only).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["POLARS_MAX_THREADS"] = "1"

import numpy as np
from figures import Figure, write_figures
from model_speed import cpu_seconds, gpu, prepare, rank, train

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pipeline.settings import CHECKOUT, settings

DATA = Path(os.environ.get("WARMSTART_DATA", CHECKOUT.parent / "shared" / "data"))
SEEDS = dict.fromkeys(("beauty2014", "sports2014", "toys2014"), (1, 2, 3))
RECIPE = (
    "embed.width=256",
    "pretrain.width=128",
    "pretrain.members=5",
    "pretrain.recency=true",
    "pretrain.item_statistics=false",
    "pretrain.attribute_gain=4",
    "pretrain.dropout=0.3",
    "pretrain.id_dropout=0.0",
    "pretrain.learning_rate=0.001",
    "pretrain.weight_decay=0.5",
    "pretrain.average_epochs=1.5",
    "pretrain.epochs=7",
    "pretrain.similarity=true",
    "pretrain.max_steps=0",
    "pretrain.validation_users=10000",
)
PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12}  # dense bfloat16, data sheets
DONE = "done"  # beside what a stage wrote whole


def main() -> None:
    """Run what is missing, then write all figures."""
    words = argparse.ArgumentParser(description="The model: quality and cost.")
    words.add_argument("--parts", nargs="*", help="only these")
    words.add_argument("--again", nargs="*", default=[], help="these, though their figures are there")
    words.add_argument("--here", help=argparse.SUPPRESS)
    asked = words.parse_args()
    parts = all_parts()
    kept = settings().home / "bench" / "model"
    kept.mkdir(parents=True, exist_ok=True)
    if asked.here:
        path = kept / f"{asked.here}.json"
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps(parts[asked.here]()))
        fresh.replace(path)
        return
    for name in asked.parts or parts:
        if name in asked.again or not (kept / f"{name}.json").exists():
            print(name, flush=True)
            subprocess.run([sys.executable, __file__, "--here", name], check=True, cwd=CHECKOUT)
    found = {
        name: json.loads((kept / f"{name}.json").read_text()) for name in parts if (kept / f"{name}.json").exists()
    }
    write_figures("model", as_figures(found))


def all_parts() -> dict[str, Callable[[], dict[str, float]]]:
    """What there is to measure, by name."""
    parts: dict[str, Callable[[], dict[str, float]]] = {
        "prepare": prepare,
        "train": train,
        "rank_1700": lambda: rank(1_700, 40_000),
        "rank_27000": lambda: rank(27_000, 4_000),
    }
    peak, why = gpu_peak()
    if peak is None:
        print(f"gpu is left out: {why}")
    else:
        parts["gpu"] = lambda: gpu(peak)
    for shop, seeds in SEEDS.items():
        if (DATA / "amazon" / shop).is_dir():
            parts |= {f"{shop}.{seed}": lambda shop=shop, seed=seed: recommend(shop, seed) for seed in seeds}
        else:
            print(f"{shop} is left out: {DATA / 'amazon' / shop} is not there (WARMSTART_DATA)")
    return parts


def gpu_peak() -> tuple[float | None, str]:
    """Operations a second of the GPU at hand, or None and why it is not known."""
    import torch

    if not torch.cuda.is_available():
        return None, "torch sees no GPU"
    name = torch.cuda.get_device_name()
    found = [peak for model, peak in PEAKS.items() if model in name.split()]
    return (found[0], "") if found else (None, f"PEAKS does not have {name}; add its peak to {Path(__file__).name}")


def as_figures(found: dict[str, dict[str, float]]) -> list[Figure]:
    """The parts' figures, the mean over the seeds of a shop."""
    figures: list[Figure] = []
    units = {"hr10_masked": "", "ndcg10_masked": "", "cpu_seconds": "s"}
    for name, values in found.items():
        if name.split(".")[0] not in SEEDS:
            figures += [(figure, value, unit_of(figure)) for figure, value in values.items()]
    for shop, seeds in SEEDS.items():
        rows = [found[f"{shop}.{seed}"] for seed in seeds if f"{shop}.{seed}" in found]
        for figure, unit in units.items():
            if rows:
                words = f"mean of {len(rows)} seeds" if len(rows) > 1 else "one seed"
                figures.append(
                    (f"{shop}.{figure}", float(np.mean([row[figure] for row in rows])), f"{unit} {words}".strip())
                )
    return figures


def unit_of(figure: str) -> str:
    """Of a figure that is no quality."""
    return "x" if figure.endswith("_x") else "/s" if "_per_" in figure else ""


def recommend(shop: str, seed: int) -> dict[str, float]:
    """The recipe on one shop."""
    import torch

    from pipeline.data.adapters import amazon
    from pipeline.data.training_set import load_domain
    from pipeline.evaluation.metrics import hit_rate, ndcg
    from pipeline.evaluation.ranking import rank_holdout
    from pipeline.graph import load_graph
    from pipeline.runs.contract import Job
    from pipeline.runs.parameters import apply_overrides, read_params, stage_params
    from pipeline.stages import embed, features, pretrain, snapshot
    from pipeline.training.domains import open_domain
    from pipeline.training.scoring import ModelScorer
    from pipeline.training.weights import load_model

    root = settings().home / "bench" / "model" / shop
    given = (f"data={root / 'dataset'}", f"targets=[{shop}]", "as_of=2026-01-01T00:00:00Z", f"seed={seed}", *RECIPE)
    params, graph = apply_overrides(read_params(CHECKOUT / "params.yaml"), given), load_graph(CHECKOUT / "dvc.yaml")

    def run(module: Any, name: str, inputs: list[str], made: list[str]) -> None:
        if all((root / path / DONE).exists() for path in made):
            return
        for path in made:
            shutil.rmtree(root / path, ignore_errors=True)
            (root / path).mkdir(parents=True)
        scratch = root / "scratch" / name
        shutil.rmtree(scratch, ignore_errors=True)  # a training that goes on would not count what it had used
        folders = {path: root / path for path in (*inputs, *made)}
        outputs = {path.removesuffix(f"-{seed}"): folders[path] for path in made}
        module.run(folders, outputs, stage_params(graph.stages[name], params), Job(scratch, None, 1))
        for path in made:
            (root / path / DONE).touch()

    if not (root / "dataset" / "dataset.yaml").exists():
        amazon.prepare(DATA / "amazon", root / "dataset", [shop], [shop])
    run(snapshot, "snapshot", [], ["data/snapshot"])
    if not (root / "data" / "valid").exists():
        (root / "data" / "valid").symlink_to(root / "data" / "snapshot")  # nothing to put into quarantine
    run(features, "features", ["data/valid"], ["data/features", "data/training"])
    run(embed, "embed", ["data/training"], ["data/item_vectors"])
    backbone = root / "models" / f"backbone-{seed}"
    shutil.rmtree(backbone, ignore_errors=True)  # of another recipe, or of a part that was stopped before its figures
    began = cpu_seconds()
    run(pretrain, "pretrain", ["data/training", "data/item_vectors"], [f"models/backbone-{seed}"])
    spent = cpu_seconds() - began
    history = [json.loads(line) for line in (backbone / "history.jsonl").read_text().splitlines()]
    best = max(range(len(history)), key=lambda row: history[row]["valid_ndcg10"])
    model, data = load_model(backbone), load_domain(root / "data" / "training", shop)
    domain = open_domain(data, root / "data" / "item_vectors", model.spec, torch.device("cpu"))
    ranks = rank_holdout(ModelScorer(model, domain), data.holdout("test"), data.n_items).masked
    return {
        "hr10_masked": float(hit_rate(ranks, 10).mean()),
        "ndcg10_masked": float(ndcg(ranks, 10).mean()),
        "cpu_seconds": spent * (best + 1) / len(history),
    }


if __name__ == "__main__":
    main()
