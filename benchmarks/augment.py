"""`make bench-augment`: do made sequences help where data is thin? The stage `augment`, judged on test users too.

* `world`: five worlds (`world:small`), target harbour, sources metro and valley;
* `scientific1`, `scientific10`: amazon scientific2018 with 1 % and 10 % of its users in training and validation, and
  3,000 of all users as test users; sources are 4,000 users each of sports2014 and games2018;
* `movielens`: ml-latest-small, its own source, the last 50 ratings of every user, items with 5 ratings or more.

Of each: `tstr_share`, NDCG@10 of a recommender of random weights that learns from made sequences alone, as a share of
one that learns from as many real ones; `thin_gain_pct`, NDCG@10 of the fine-tuning with made sequences over without,
for users whose history is cut to 0, 1, 5 and 10 interactions; `control_gain_pct`, the same of the better control;
`tail_gain_pct`, for held-out items of the tail; `verdict`, what the gate said from the validation users. Test users,
every item ranked, seen ones masked; `_low` and `_high` are 95 % bootstraps over users, paired. `world.two_sample`,
`world.copied` and `world.cpu_s` are means a world.

Finished parts stay in `$WARMSTART_HOME/bench/augment/` and are not run again; `--again` forgets them. The raw files of
real data are found in `$WARMSTART_DATA` (../shared/data without it); parts whose files are absent are left out.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["POLARS_MAX_THREADS"] = "1"

import numpy as np
import polars as pl

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from figures import Figure, write_figures
from training_sets import Shop, read_tables, write_training_set

from pipeline.augmentation.arms import GAN, NONE
from pipeline.augmentation.experiment import Experiment
from pipeline.augmentation.parts import CUTS
from pipeline.augmentation.shares import best_share
from pipeline.data.adapters import amazon, movielens
from pipeline.data.world.generate import generate
from pipeline.data.world.params import WorldParams
from pipeline.runs.attempt import write_json
from pipeline.runs.contract import Job
from pipeline.runs.parameters import read_params
from pipeline.settings import CHECKOUT, Settings
from pipeline.stages import augment, pretrain
from pipeline.training.cpu_budget import CpuBudget
from pipeline.training.randomness import generator

SEEDS = (1, 2, 3, 4, 5)
SOURCE_USERS = 4000
THIN = tuple(f"test: users with {k} interactions" for k in CUTS)
RESAMPLES = 2000
Part = dict[str, Any]


def main() -> None:
    """Run what is not done yet, and write the figures of what is there."""
    words = argparse.ArgumentParser(description="Do made sequences help where data is thin?")
    words.add_argument("--only", nargs="*", help="parts: world-1 … world-5, scientific1, scientific10, movielens")
    words.add_argument("--again", action="store_true", help="forget finished parts")
    asked = words.parse_args()
    logging.basicConfig(level="WARNING")
    kept = Settings().home / "bench" / "augment"
    if asked.again:
        shutil.rmtree(kept, ignore_errors=True)
    raw = Path(os.environ.get("WARMSTART_DATA", CHECKOUT.parent / "shared" / "data"))
    for name, (run, needed) in parts(raw).items():
        if (asked.only and name not in asked.only) or (kept / f"{name}.json").exists():
            continue
        if needed and not needed.exists():
            print(f"{name} is left out: {needed} is not there", flush=True)
            continue
        with tempfile.TemporaryDirectory(prefix="warmstart-bench-") as scratch:
            found = run(Path(scratch))
        write_json(kept / f"{name}.json", found)
        print(name, found["cpu_s"], found["reasons"], flush=True)
    done = {path.stem: json.loads(path.read_text()) for path in sorted(kept.glob("*.json"))}
    write_figures("augment", figures(done))


def parts(raw: Path) -> dict[str, tuple[Callable[[Path], Part], Path | None]]:
    """Name -> how it is run in a scratch folder, and the raw data it needs."""
    worlds = {f"world-{seed}": (lambda root, seed=seed: world(root, seed), None) for seed in SEEDS}
    shops, lens = raw / "amazon", raw / "ml-latest-small"
    return worlds | {
        "scientific1": (lambda root: scientific(root, shops, 0.01), shops),
        "scientific10": (lambda root: scientific(root, shops, 0.10), shops),
        "movielens": (lambda root: movie_lens(root, lens), lens),
    }


def world(root: Path, seed: int) -> Part:
    """The default world."""
    markets = generate(WorldParams(size="small"), seed).markets
    roles = {"metro": ("source",), "valley": ("source",), "harbour": ("target",)}
    shops = {
        name: Shop(role, markets[name].interactions, markets[name].items, markets[name].users)
        for name, role in roles.items()
    }
    write_training_set(root, shops, seed)
    return run_night(root, "harbour", seed, {"epochs": 8}, {})


def scientific(root: Path, raw: Path, share: float) -> Part:
    """A shop of which a share of the users is known."""
    sources = ["sports2014", "games2018"]
    written = amazon.prepare(raw, root / "raw", sources, ["scientific2018"], drop_shared_users=True)
    tables = read_tables(written)
    shops = {}
    for name, (visits, items) in tables.items():
        if name in sources:
            users = visits["user_id"].unique().sort()
            drawn = generator(7, "users", name).choice(users.len(), SOURCE_USERS, replace=False)
            visits = visits.join(users.gather(np.sort(drawn)).to_frame(), on="user_id", how="semi")
            items = items.join(visits.select("item_id").unique(), on="item_id", how="semi")
        shops[name] = Shop(
            ("source",) if name in sources else ("target",), visits, items, share=1.0 if name in sources else share
        )
    write_training_set(root, shops, 7)
    return run_night(root, "scientific2018", 7, {"epochs": 5}, {"validation_users": 3000})


def movie_lens(root: Path, raw: Path) -> Part:
    """One domain that is its own source."""
    written = movielens.prepare("ml-latest-small", raw, root / "raw", "leave_one_out")
    ((name, (visits, items)),) = read_tables(written).items()
    often = visits.group_by("item_id").len().filter(pl.col("len") >= 5)
    visits = visits.join(often.select("item_id"), on="item_id", how="semi")
    visits = visits.sort("user_id", "timestamp", "item_id").group_by("user_id", maintain_order=True).tail(50)
    write_training_set(root, {name: Shop(("source", "target"), visits, items)}, 7)
    changed = {"target_steps": 300, "longest": 48, "epochs": 16, "shares": [0.3]}
    return run_night(root, name, 7, {"epochs": 8}, changed)


def run_night(root: Path, target: str, seed: int, pretraining: Mapping[str, Any], changed: Mapping[str, Any]) -> Part:
    """Pretrain a backbone, run the experiment, and look at the test users too."""
    given = read_params(CHECKOUT / "params.yaml")
    inputs = {"data/training": root / "training", "data/item_vectors": root / "vectors"}
    inputs["models/backbone"] = root / "backbone"
    inputs["models/backbone"].mkdir()
    params = pretrain.Params.model_validate(
        {**given["pretrain"], **pretraining, "seed": seed, "validation_users": 1000}
    )
    pretrain.run(inputs, {"models/backbone": inputs["models/backbone"]}, params, Job(root / "scratch"))
    began = time.process_time()
    wanted = {**given["augment"], "seed": seed, "enabled": True, "budget_cpu_seconds": 1200, **changed}
    asked = augment.Params.model_validate(wanted)
    job = Job(root / "scratch" / "augment", target)
    experiment = Experiment(inputs, asked, job, CpuBudget(1200, job.scratch), ("validation", "test"))
    _, about = experiment.run()
    if "trial" not in about:
        sys.exit(
            f"{target}: the night ended before the trial, there is nothing to compare: {'; '.join(about['reasons'])}"
        )
    spent = time.process_time() - began
    return found_in(experiment, about) | {"cpu_s": round(spent, 1)}


def found_in(experiment: Experiment, about: Mapping[str, Any]) -> Part:
    """What a part is remembered by: per-user figures of the test users, and the night's own answer."""
    validation, test = experiment.parts["validation"], experiment.parts["test"]
    every = {part.name: np.ones(len(part.rows), dtype=bool) for part in validation}
    chosen = {arm: by[best_share(by, validation, every)] for arm, by in experiment.trial.items()}
    rows = {part.name: part.rows for part in test}
    users = int(max(rows["test: all users"])) + 1
    thin = {}
    for arm, figures in chosen.items():
        total, count = np.zeros(users), np.zeros(users)
        for name in THIN:
            np.add.at(total, rows[name], figures.ndcg[name])
            np.add.at(count, rows[name], 1)
        thin[arm] = (total[count > 0] / count[count > 0]).round(6).tolist()
    tail = {arm: figures.ndcg.get("test: tail items", np.zeros(0)).round(6).tolist() for arm, figures in chosen.items()}
    scratch = {name: by["test: all users"].round(6).tolist() for name, by in experiment.scratch_figures.items()}
    return {
        "feeds": about["feeds"],
        "reasons": about["reasons"],
        "thin": thin,
        "tail": tail,
        "scratch": scratch,
        "quality": about["quality"],
        "generator": about["generator"],
        "shares": about["trial"]["shares"],
    }


def figures(done: Mapping[str, Part]) -> list[Figure]:
    """Every figure that the parts allow."""
    rows: list[Figure] = []
    for name in ("world", "scientific1", "scientific10", "movielens"):
        nights = [part for key, part in done.items() if key.partition("-")[0] == name]
        if not nights:
            continue
        rows += ratio(f"{name}.tstr_share", nights, "scratch", "made", "real", share=True)
        rows += ratio(f"{name}.thin_gain_pct", nights, "thin", GAN, NONE)
        controls = [arm for arm in nights[0]["thin"] if arm not in (GAN, NONE)]
        best = max(controls, key=lambda arm: float(np.concatenate([night["thin"][arm] for night in nights]).mean()))
        rows += ratio(f"{name}.control_gain_pct", nights, "thin", best, NONE)
        rows += ratio(f"{name}.gan_over_control_pct", nights, "thin", GAN, best)
        rows += ratio(f"{name}.tail_gain_pct", nights, "tail", GAN, NONE)
        for figure in ("two_sample", "coverage"):
            mean = float(np.mean([night["quality"]["likeness"][figure] for night in nights]))
            rows.append((f"{name}.{figure}", mean, ""))
        rows.append((f"{name}.copied", float(np.mean([night["quality"]["copied"] for night in nights])), ""))
        rows.append((f"{name}.cpu_s", float(np.mean([night["cpu_s"] for night in nights])), "s"))
        fed = sum(night["feeds"] for night in nights)
        verdict = "feeds" if fed else "passes through"
        rows.append((f"{name}.verdict", f"{verdict}, {fed} of {len(nights)} nights fed", ""))
    return rows


def ratio(name: str, nights: Sequence[Part], kind: str, ours: str, theirs: str, share: bool = False) -> list[Figure]:
    """Mean of one arm over that of another, over the users of all nights: a share, or the gain in percent."""
    columns = [np.concatenate([night[kind][arm] for night in nights]) for arm in (ours, theirs)]
    if not len(columns[0]) or not columns[1].any():
        return []
    draws = generator(7, name).integers(0, len(columns[0]), (RESAMPLES, len(columns[0])))
    means = [column[draws].mean(1) for column in columns]
    found = [
        columns[0].mean() / columns[1].mean(),
        *np.quantile(means[0] / np.maximum(means[1], 1e-12), [0.025, 0.975]),
    ]
    values = [float(value if share else 100 * (value - 1)) for value in found]
    unit = "x" if share else "%"
    return [(name + ending, value, unit) for ending, value in zip(("", "_low", "_high"), values, strict=True)]


if __name__ == "__main__":
    main()
