"""`make bench-incremental`: seven nights of the drifting synthetic world, each from scratch and continued.

Night n learns from the rows before day n of the last week of `world:small`. Both arms see the same snapshot, features
and item vectors; one trains its backbone anew, the other continues its own backbone of the night before
(`pretrain.warm_start=champion`), and both fine-tune it on each target. The first night is from scratch in both.

* `retention`: NDCG@10 of the continued teachers / those from scratch (test users, every item ranked, seen ones masked,
  mean over targets), mean over nights 2 to 7;
* `retention_lowest`: of the worst of these nights;
* `retention_backbone`: the same of the backbones on the test users of the source domains, six times as many;
* `cpu_share`: CPU-seconds of `pretrain`, continued / from scratch, over nights 2 to 7;
* `cpu_share_with_transfer`: the same of `pretrain` and every `transfer` together, which is not shortened;
* `ndcg10_scratch`, `ndcg10_continued`, `cpu_s_scratch`, `cpu_s_continued`: what these are made of, a night.

CPU-seconds of this process, one thread: the figure does not depend on what else the machine does.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import resource
import sys
import tempfile
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["POLARS_MAX_THREADS"] = "1"

import numpy as np
from figures import write_figures

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pipeline.data.training_set import load_domain
from pipeline.data.world.params import END, TARGETS
from pipeline.data.world.params import MARKETS as ALL_MARKETS
from pipeline.evaluation.metrics import ndcg
from pipeline.evaluation.ranking import rank_holdout
from pipeline.graph import load_graph
from pipeline.lineage.cache import object_path
from pipeline.runs.contract import Job
from pipeline.runs.parameters import apply_overrides, read_params, stage_params
from pipeline.settings import CHECKOUT, Settings, settings
from pipeline.stages import embed, features, pretrain, snapshot, transfer

NIGHTS = 7
MARKETS = [name for name, _, _ in ALL_MARKETS]
# the language model has no part in the question, and costs minutes
OVERRIDES = ("embed.encoder=hashing",)


def main() -> None:
    """Run the benchmark and write its figures."""
    words = argparse.ArgumentParser(description="Incremental nights against nights from scratch.")
    words.add_argument("--size", default="small", help="of the world: tiny, small, …")
    words.add_argument("--days", type=int, default=1, help="between two nights")
    words.add_argument("--nights", type=int, default=NIGHTS)
    words.add_argument("--set", nargs="*", default=[], help="name=value")
    asked = words.parse_args()
    logging.basicConfig(level="WARNING")
    kept = Settings()
    with tempfile.TemporaryDirectory(prefix="warmstart-bench-") as scratch:
        os.environ["WARMSTART_HOME"] = str(Path(scratch) / "home")
        settings.cache_clear()
        overrides = (f"data=world:{asked.size}", *OVERRIDES, *asked.set)
        last, nights = None, []
        for number in range(asked.nights):
            as_of = END - timedelta(days=(asked.nights - 1 - number) * asked.days)
            night = Night(Path(scratch) / str(number), (f"as_of={as_of.isoformat()}", *overrides))
            night.prepare()
            fresh = night.train("scratch", None)
            continued = night.train("continued", last) if last else fresh
            last = keep(night.root / ("continued" if last else "scratch") / "models" / "backbone")
            nights.append((fresh, continued))
            print(f"{as_of:%Y-%m-%d} scratch {fresh} continued {continued}", flush=True)
    judged = nights[1:]
    retention = [continued["ndcg10"] / fresh["ndcg10"] for fresh, continued in judged]

    def mean(arm: int, name: str) -> float:
        return float(np.mean([night[arm][name] for night in judged]))

    write_figures(
        "incremental",
        [
            ("retention", float(np.mean(retention)), "x"),
            ("retention_lowest", min(retention), "x"),
            ("retention_backbone", mean(1, "backbone") / mean(0, "backbone"), "x"),
            ("cpu_share", mean(1, "pretrain_s") / mean(0, "pretrain_s"), "x"),
            (
                "cpu_share_with_transfer",
                (mean(1, "pretrain_s") + mean(1, "transfer_s")) / (mean(0, "pretrain_s") + mean(0, "transfer_s")),
                "x",
            ),
            ("ndcg10_scratch", mean(0, "ndcg10"), ""),
            ("ndcg10_continued", mean(1, "ndcg10"), ""),
            ("cpu_s_scratch", mean(0, "pretrain_s"), "s"),
            ("cpu_s_continued", mean(1, "pretrain_s"), "s"),
        ],
        kept,
    )


class Night:
    """The stages of one night, by direct calls: no DVC, no Airflow."""

    def __init__(self, root: Path, overrides: tuple[str, ...]) -> None:
        self.root = root
        self.params = apply_overrides(read_params(CHECKOUT / "params.yaml"), overrides)
        self.graph = load_graph(CHECKOUT / "dvc.yaml")

    def prepare(self) -> None:
        """Snapshot, features and item vectors; the clean world keeps its contracts, so validate changes nothing."""
        self.run(snapshot, "snapshot", "", [], ["data/snapshot"])
        (self.root / "data" / "valid").symlink_to(self.root / "data" / "snapshot")
        self.run(features, "features", "", ["data/valid"], ["data/features", "data/training"])
        self.run(embed, "embed", "", ["data/training"], ["data/item_vectors"])

    def train(self, arm: str, start: str | None) -> dict[str, float]:
        """Backbone and teachers of one arm: CPU-seconds and the teachers' mean NDCG@10."""
        inputs = ["data/training", "data/item_vectors"]
        self.params["pretrain"]["start"] = start
        began = cpu_seconds()
        self.run(pretrain, "pretrain", arm, inputs, ["models/backbone"])
        pretrained = cpu_seconds()
        for target in TARGETS:
            outputs = ["models/teacher", "reports/transfer"]
            self.run(transfer, "transfer", arm, [*inputs, "models/backbone", "data/synthetic"], outputs, target)
        done = cpu_seconds()
        teachers = [self._judge(self._place("models/teacher", arm, target), [target]) for target in TARGETS]
        sources = [name for name in MARKETS if name not in TARGETS]
        return {
            "ndcg10": round(float(np.mean(teachers)), 4),
            "backbone": round(self._judge(self._place("models/backbone", arm, None), sources), 4),
            "pretrain_s": round(pretrained - began, 2),
            "transfer_s": round(done - pretrained, 2),
        }

    def run(
        self, module: Any, name: str, arm: str, inputs: list[str], outputs: list[str], target: str | None = None
    ) -> None:
        """One stage; models stand under the arm's name."""
        params = stage_params(self.graph.stages[name], self.params)
        made = {path: self._place(path, arm, target) for path in outputs}
        for folder in made.values():
            folder.mkdir(parents=True)
        given: Mapping[str, Path] = {path: self._place(path, arm, None) for path in inputs}
        module.run(given, made, params, Job(self.root / "scratch" / arm / name / (target or ""), target, 1))

    def _place(self, path: str, arm: str, target: str | None) -> Path:
        folder = self.root / arm / path if path.startswith(("models/", "reports/")) else self.root / path
        return folder / target if target else folder

    def _judge(self, folder: Path, domains: list[str]) -> float:
        """NDCG@10 of a model on the test users of these domains, every item ranked, seen ones masked."""
        import torch

        from pipeline.training.domains import open_domain
        from pipeline.training.scoring import ModelScorer
        from pipeline.training.weights import load_model

        model, found = load_model(folder), []
        for name in domains:
            data = load_domain(self.root / "data" / "training", name)
            domain = open_domain(data, self.root / "data" / "item_vectors", model.spec, torch.device("cpu"))
            ranks = rank_holdout(ModelScorer(model, domain), data.holdout("test"), data.n_items)
            found.append(ndcg(ranks.masked, 10))
        return float(np.concatenate(found).mean())


def cpu_seconds() -> float:
    """User and system time of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def keep(folder: Path) -> str:
    """Put a folder where DVC would: its files and its listing by md5, in the cache. Returns the listing's name."""
    store = settings().home / "dvc" / "cache"
    files = []
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        files.append({"md5": _put(store, content), "relpath": path.name})
    return _put(store, json.dumps(files).encode(), ".dir")


def _put(store: Path, content: bytes, ending: str = "") -> str:
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest() + ending
    path = object_path(store, md5)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return md5


if __name__ == "__main__":
    main()
