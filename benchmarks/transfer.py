"""`make bench-transfer`: does what was learned elsewhere help, how is it best brought, and what of new items?

* `world`: three worlds (`world:small`), target harbour with 10 % and with all of its users, sources metro and valley;
* `beauty`: amazon beauty2014 with 1 % and 10 % of its users, sources sports2014 and 8,000 users of games2018, none a
  user of a target; `scientific`: scientific2018 with all of its users, the same backbone;
* `reptile`: the same worlds with 10 % of the users, `whole` from a backbone of 8 epochs and 3 by episodes of Reptile,
  from one of 11 epochs, and from the one of 8; `anil`: fine-tuned with and without a state of each user's own (arm
  `anil` against `whole`); three seeds each, users cut to k = 1, 5 and 10 interactions, the support set;
* `selector`: the order of sources and settings told before training (benchmarks/selector.py);
* `world.cold`, `beauty.cold`: harbour with its sources, beauty2014 alone; 10 % of the items in no training sequence.

`gain_pct`: NDCG@10 of the arm that validation picks over scratch at equal steps, all test users; `fewshot_gain_pct`: of
users whose history is cut to 5; `picked`: the arms. `share_of_oracle`: the picked arm's by that of the known truth;
`share_of_observer`: by that of an ideal observer who has to infer tastes and count popularity (benchmarks/observer.py).
`meta.k5_gain_pct`: NDCG@10 after Reptile over 11 ordinary epochs, `…_over_shorter_pct`: over 8; `anil.k5_gain_pct`: of
`anil` over `whole`, all of harbour's users (`anil10`: 10 %), `kept`: how often validation kept the user states; equal
steps on the target, a user's mean over the seeds.
`cold_item_recall10`: HR@10 of the removed items in the full catalogue; `cold_item_vs_knn`: by that of content-kNN;
`warm_loss_pct`: NDCG@10 that the other items give up for it, against the same model that never shows a removed one;
`…_uncalibrated`: of the model as it was trained. Every item is ranked, seen ones masked; `_low` and `_high` are 95 %
bootstraps over users, paired. Leave-one-out, texts of worlds hashed, of amazon by MiniLM (256 wide); no Feast features.

Every arm is kept in `$WARMSTART_HOME/bench/transfer/`, not run again (`--again` forgets them). `world-table/page.html`
there has all arms, parts and shares. Raw files of real data are found in `$WARMSTART_DATA` (../shared/data without it).
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["POLARS_MAX_THREADS"] = "1"

import numpy as np
import polars as pl

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import selector as choice
from figures import Figure, write_figures
from observer import OBSERVERS, observed
from training_sets import WIDTH, Shop, write_training_set

from pipeline.augmentation.asked import tail_items
from pipeline.augmentation.parts import ALL, parts_of
from pipeline.data.adapters import amazon
from pipeline.data.sequences import Array
from pipeline.data.training_set import load_domain
from pipeline.data.world.generate import generate
from pipeline.data.world.params import WorldParams
from pipeline.evaluation.baselines import fit_baselines
from pipeline.evaluation.metrics import hit_rate, ndcg
from pipeline.evaluation.ranking import Requests, rank_holdout
from pipeline.features.encoders import Encoder, encoder_named
from pipeline.runs.attempt import write_json
from pipeline.runs.contract import Job
from pipeline.runs.parameters import read_params
from pipeline.settings import CHECKOUT, Settings
from pipeline.stages import pretrain
from pipeline.training.domains import content_vectors, open_domain
from pipeline.training.randomness import generator
from pipeline.training.scoring import ModelScorer
from pipeline.training.weights import load_model
from pipeline.transfer.experiment import ARMS, ORACLE, TAIL_SHARE, Experiment, Outcome
from pipeline.transfer.newcomers import calibrated
from pipeline.transfer.outcome import PICKED, gain, page, pooled, table, with_picked
from pipeline.transfer.params import SCRATCH, TOP, TransferParams
from pipeline.transfer.parts import with_states
from pipeline.transfer.states import states_table
from pipeline.transfer.thinning import few_users, without_items

WORLDS = (1, 2, 3)
SOURCES = {"sports2014": 40_000, "games2018": 8_000}  # users at most
RECIPE = {"recency": True, "similarity": True, "item_statistics": False, "dropout": 0.3, "weight_decay": 0.1}
RECIPE |= {"average_epochs": 1.5, "sampled_items": 1024, "max_steps": 0}
FEWER = (SCRATCH, "whole", "discriminative", "gradual", "fused")
TUNING = {
    "learning_rate": 0.002,
    "epochs": 12,
    "dropout": 0.3,
    "weight_decay": 0.1,
    "average_epochs": 1.5,
    "sampled_items": 1024,
    "max_steps": 0,
}
SHARES = (0.1, 1.0)  # of harbour's users
SEEDS = (1, 2, 3)
WAYS = tuple(arm for arm in ARMS if arm != "anil")  # which has a part of its own
SUPPORTS = (1, 5, 10)
FEW = "users with 5 interactions"
REMOVED = 0.1
PLACES = 2  # of beauty.cold: the last ones of ten, for removed items
DONE = "done"


def main() -> None:
    """Run what is not done yet, and write the figures of what is there."""
    words = argparse.ArgumentParser(description="Transfer, and items new to everyone.")
    words.add_argument(
        "--only", nargs="*", help="parts: world-1 …, anil-1 …, reptile-1 …, beauty, world.cold, beauty.cold"
    )
    words.add_argument("--again", action="store_true", help="forget what is there")
    asked = words.parse_args()
    logging.basicConfig(level="WARNING")
    logging.getLogger("pipeline.transfer").setLevel("INFO")
    kept = Settings().home / "bench" / "transfer"
    if asked.again:
        shutil.rmtree(kept, ignore_errors=True)
    raw = Path(os.environ.get("WARMSTART_DATA", CHECKOUT.parent / "shared" / "data")) / "amazon"
    parts: dict[str, Callable[[], Any]] = {
        f"world-{seed}": lambda seed=seed: world(kept / f"world-{seed}", seed) for seed in WORLDS
    }
    parts |= {"scientific": lambda: scientific(kept / "amazon", raw), "beauty": lambda: beauty(kept / "amazon", raw)}
    parts |= {"selector": lambda: selector(kept / "selector", raw)}
    parts |= {"world.cold": lambda: world_cold(kept / "world.cold")}
    parts |= {f"anil-{seed}": lambda seed=seed: anil(kept / f"world-{seed}", seed) for seed in WORLDS}
    parts |= {f"reptile-{seed}": lambda seed=seed: reptile(kept / f"world-{seed}", seed) for seed in WORLDS}
    parts |= {"beauty.cold": lambda: beauty_cold(kept / "beauty.cold", raw)}
    for name, run in parts.items():
        if (asked.only and name not in asked.only) or (kept / f"{name}.json").exists():
            continue
        if name.startswith(("beauty", "scientific")) and not raw.exists():
            print(f"{name} is left out: {raw} is not there", flush=True)
            continue
        write_json(kept / f"{name}.json", run())
        print(name, "done", flush=True)
    done = {path.stem: json.loads(path.read_text()) for path in sorted(kept.glob("*.json"))}
    write_figures("transfer", figures(done, kept))


def world(root: Path, seed: int) -> list[Outcome]:
    """A small target beside two sources."""
    shops = world_shops(seed, {"metro": ("source",), "valley": ("source",), "harbour": ("target",)})
    prepare(root, shops, seed, {"epochs": 8})
    return experiment(root, "harbour", seed, SHARES, {}, 5000) + observers(root, "harbour", seed)


def observers(root: Path, target: str, seed: int) -> list[Outcome]:
    """What ideal observers reach who are not told everything."""
    drawn, found = generate(WorldParams(size="small"), seed), []
    for share in SHARES:
        training, thin = root / "training", root / "observed"
        if share < 1:
            shutil.rmtree(thin, ignore_errors=True)
            training = few_users(training, thin, target, share, seed)
        data = load_domain(training, target)
        tail = tail_items(np.bincount(data.items, minlength=data.n_items + 1), TAIL_SHARE)
        parts = parts_of(data, "test", tail, 5000, 0)
        for name, figures in observed(drawn, target, data, parts).items():
            told = {part: values.round(6).tolist() for part, values in with_states(figures, parts, data).items()}
            found.append({"share": share, "seed": seed, "arm": name, "parts": told})
    shutil.rmtree(thin, ignore_errors=True)
    return found


def shops(root: Path, raw: Path) -> Path:
    """Two targets and the shops to learn from, and a backbone of these."""
    shops_of_amazon(root, raw)
    train_backbone(root, 7, {**RECIPE, "id_dropout": 0.5, "epochs": 4})
    return root


def shops_of_amazon(root: Path, raw: Path) -> Path:
    """A training set of two targets and their sources; no user of a target is in a source."""
    tables = amazon_tables(root, raw, [*SOURCES], ["beauty2014", "scientific2018"])
    found = {}
    for name, (visits, items) in tables.items():
        if name in SOURCES:
            users = visits["user_id"].unique().sort()
            drawn = generator(7, "users", name).choice(users.len(), min(SOURCES[name], users.len()), replace=False)
            visits = visits.join(users.gather(np.sort(drawn)).to_frame(), on="user_id", how="semi")
            items = items.join(visits.select("item_id").unique(), on="item_id", how="semi")
        found[name] = Shop(("source",) if name in SOURCES else ("target",), visits, items)
    if not (root / "training" / "dataset.json").exists():
        write_training_set(root, found, 7, encoder_named("minilm", 1), 256)
    return root


def anil(root: Path, seed: int) -> list[Outcome]:
    """The small target with and without a state of each user's own."""
    shops = world_shops(seed, {"metro": ("source",), "valley": ("source",), "harbour": ("target",)})
    prepare(root, shops, seed, {"epochs": 8})
    return experiment(root, "harbour", seed, (0.1, 1.0), {}, 5000, "anil", ("whole", "anil"), SEEDS)


def reptile(root: Path, seed: int) -> list[Outcome]:
    """The small target with 10 % of its users from a start that was learned, and from one trained for as long."""
    shops = world_shops(seed, {"metro": ("source",), "valley": ("source",), "harbour": ("target",)})
    prepare(root, shops, seed, {"epochs": 8})
    found = []
    for name, changed in (("reptile", {"epochs": 8, "meta": "reptile", "meta_epochs": 3}), ("longer", {"epochs": 11})):
        train_backbone(root, seed, changed, name)
        whole = experiment(root, "harbour", seed, (0.1,), {}, 5000, f"arms-{name}", ("whole",), SEEDS, name)
        found += [one | {"arm": name} for one in whole if one["arm"] == "whole"]
    return found


def beauty(root: Path, raw: Path) -> list[Outcome]:
    """A shop of which few users are known."""
    changed = {**TUNING, "validation_users": 3000}
    return experiment(shops(root, raw), "beauty2014", 7, (0.01, 0.1), changed, 2500, arms=FEWER)


def scientific(root: Path, raw: Path) -> list[Outcome]:
    """A shop of which all users are known."""
    changed = {**TUNING, "epochs": 6, "validation_users": 3000}
    return experiment(shops(root, raw), "scientific2018", 7, (1.0,), changed, 10_000, arms=(SCRATCH, "whole"))


def selector(root: Path, raw: Path) -> list[dict[str, Any]]:
    """Every candidate of the choice before training."""
    small = {"width": 32, "epochs": 4}
    given = {**read_params(CHECKOUT / "params.yaml")["transfer"], "epochs": 6, "newcomer_loss": None}
    rows: list[dict[str, Any]] = []
    for seed in choice.SEEDS:
        here = root / f"world-{seed}"
        if not (here / "training" / "dataset.json").exists():
            roles = {"metro": ("source",), "valley": ("source",), "harbour": ("target",)}
            write_training_set(here, world_shops(seed, roles), seed)
        sets = {"metro": ["metro"], "valley": ["valley"], "both": ["metro", "valley"]}
        found = choice.backbones_of(here, sets, lambda folder, seed=seed: train_backbone(folder, seed, small))
        rows += choice.judge(here, "harbour", found, choice.SHARES, {**given, "seed": seed}, f"world {seed}")
    if raw.exists():
        here, whole = root / "amazon", shops_of_amazon(root.parent / "amazon", raw)
        for name in SOURCES:
            if not (here / name / name).exists():
                few_users(whole / "training", here / name, name, 0.1, 7)
        if not (here / "training" / "dataset.json").exists():
            (here / "training").mkdir()
            for name in (*SOURCES, "beauty2014"):
                of = here / name / name if name in SOURCES else whole / "training" / name
                (here / "training" / name).symlink_to(of)
            about = json.loads((whole / "training" / "dataset.json").read_text())
            about["domains"].pop("scientific2018")
            write_json(here / "training" / "dataset.json", about)
            (here / "vectors").symlink_to(whole / "vectors")
        sets = {"sports": ["sports2014"], "games": ["games2018"], "both": ["sports2014", "games2018"]}
        found = choice.backbones_of(here, sets, lambda folder: train_backbone(folder, 7, {**small, "recency": True}))
        changed = {"seed": 7, "sampled_items": 1024, "validation_users": 1000}
        rows += choice.judge(here, "beauty2014", found, (0.05,), {**given, **changed}, "amazon")
    return rows


def world_cold(root: Path) -> list[dict[str, float]]:
    """Removed items of harbour, learned from with its sources; three worlds."""
    roles: dict[str, tuple[str, ...]] = {"metro": ("source",), "valley": ("source",), "harbour": ("source", "target")}
    return [
        cold(root / str(seed), "harbour", world_shops(seed, roles), seed, {"epochs": 8}) for seed in WORLDS
    ]  # fmt: skip


def beauty_cold(root: Path, raw: Path) -> list[dict[str, float]]:
    """Removed items of a shop of its own."""
    visits, items = amazon_tables(root, raw, ["beauty2014"], ["beauty2014"])["beauty2014"]
    changed = {**RECIPE, "width": 128, "id_dropout": 0.3, "epochs": 5}
    changed |= {"full_softmax_items": 100_000, "validation_users": 3000}
    shop = {"beauty2014": Shop(("source", "target"), visits, items)}
    return [cold(root, "beauty2014", shop, 7, changed, encoder_named("minilm", 1), 256, PLACES)]


def cold(
    root: Path,
    target: str,
    shops: Mapping[str, Shop],
    seed: int,
    changed: Mapping[str, Any],
    encoder: Encoder | None = None,
    width: int = WIDTH,
    places: int = TOP,
) -> dict[str, float]:
    """Take items out, train, set the new ones among the others, and judge both sides."""
    import torch

    if not (root / "training").exists():
        write_training_set(root / "whole", shops, seed, encoder, width)
        without_items(root / "whole" / "training", root / "training", target, REMOVED, seed)
        (root / "vectors").symlink_to(root / "whole" / "vectors")
    train_backbone(root, seed, changed)
    model, data = load_model(root / "backbone"), load_domain(root / "training", target)
    domain = open_domain(data, root / "vectors", model.spec, torch.device("cpu"))
    test = data.holdout("test")
    is_new = test.item_slice == "cold"
    ready, about = calibrated(model, domain, 0.02, 20_000, seed, places)
    assert about is not None
    before = ModelScorer(model, domain)

    class NeverShown:
        def scores(self, requests: Requests) -> Any:
            return np.where(data.in_training, before.scores(requests), -np.inf)

    text = content_vectors(root / "vectors", data, "text", dict(model.spec.modalities)["text"])
    knn = fit_baselines(data, text, "order", ["content-kNN"], seed)["content-kNN"]
    ranks = {
        name: rank_holdout(one, test, data.n_items).masked
        for name, one in (
            ("ours", ModelScorer(ready, domain)),
            ("before", before),
            ("never", NeverShown()),
            ("knn", knn),
        )
    }
    found = {f"{name}_cold_hr10": float(hit_rate(rank[is_new], 10).mean()) for name, rank in ranks.items()}
    found |= {f"{name}_warm_ndcg10": float(ndcg(rank[~is_new], 10).mean()) for name, rank in ranks.items()}
    return found | {
        "delta": about.delta,
        "likeness": about.likeness,
        "n_cold": int(is_new.sum()),
        "n_warm": int((~is_new).sum()),
    }


def world_shops(seed: int, roles: Mapping[str, tuple[str, ...]]) -> dict[str, Shop]:
    """Markets of a world."""
    markets = generate(WorldParams(size="small"), seed).markets
    return {
        name: Shop(role, markets[name].interactions, markets[name].items, markets[name].users)
        for name, role in roles.items()
    }


def amazon_tables(
    root: Path, raw: Path, sources: list[str], targets: list[str]
) -> dict[str, tuple[pl.DataFrame, pl.DataFrame]]:
    """Interactions, with a timestamp made from the order, and items of every shop."""
    written = root / "raw" / "dataset.yaml"
    if not written.exists():
        amazon.prepare(raw, root / "raw", sources, targets, drop_shared_users=sources != targets)
    found = {}
    for name in dict.fromkeys((*sources, *targets)):
        visits, items = (
            pl.read_parquet(root / "raw" / name / f"{table}.parquet") for table in ("interactions", "items")
        )
        visits = visits.with_columns(timestamp=pl.col("position").cast(pl.Datetime("us", "UTC")))
        found[name] = visits, items
    return found


def prepare(root: Path, shops: Mapping[str, Shop], seed: int, changed: Mapping[str, Any]) -> None:
    """A training set and a backbone."""
    if not (root / "training" / "dataset.json").exists():
        write_training_set(root, shops, seed)
    train_backbone(root, seed, changed)


def train_backbone(root: Path, seed: int, changed: Mapping[str, Any], name: str = "backbone") -> None:
    """Pretrain under `root`, once."""
    out = root / name
    if (out / DONE).exists():
        return
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    given = {**read_params(CHECKOUT / "params.yaml")["pretrain"], "validation_users": 1000, **changed, "seed": seed}
    inputs = {"data/training": root / "training", "data/item_vectors": root / "vectors"}
    pretrain.run(inputs, {"models/backbone": out}, pretrain.Params.model_validate(given), Job(root / "scratch"))
    (out / DONE).touch()


def experiment(
    root: Path,
    target: str,
    seed: int,
    shares: Sequence[float],
    changed: Mapping[str, Any],
    limit: int,
    folder: str = "arms",
    arms: Sequence[str] = WAYS,
    seeds: Sequence[int] = (),
    backbone: str = "backbone",
) -> list[Outcome]:
    """Arms and shares of one target, by the seed of its data or several."""
    inputs = {"data/training": root / "training", "data/item_vectors": root / "vectors"}
    inputs["models/backbone"] = root / backbone
    given = {**read_params(CHECKOUT / "params.yaml")["transfer"], "seed": seed, **changed}
    params = TransferParams.model_validate(given)
    return Experiment(inputs, target, params, root / folder / target, arms, limit).run(shares, seeds or [seed])


def figures(done: Mapping[str, Any], kept: Path) -> list[Figure]:
    """Every figure that the finished parts allow; the page of each target is written beside them."""
    rows: list[Figure] = []
    nights = {"world": [one for key, found in done.items() if key.startswith("world-") for one in found]}
    nights |= {name: done.get(name, []) for name in ("beauty", "scientific")}
    for name, outcomes in nights.items():
        if not outcomes:
            continue
        told = with_picked(outcomes)
        told_rows = table(told)
        write_json(kept / f"{name}-table" / "table.json", told_rows)
        (kept / f"{name}-table" / "page.html").write_text(
            page(name, told, told_rows, states_table(told, PICKED)), "utf-8"
        )
        for share in sorted({one["share"] for one in told}):
            here = [one for one in told if one["share"] == share]
            full = f"{name}{round(100 * share)}" if name != "scientific" else name  # all of its users alone
            rows += gains(f"{full}.gain_pct", here, ALL)
            rows += gains(f"{full}.fewshot_gain_pct", here, FEW)
            rows.append(
                (f"{full}.ndcg10_masked", float(pooled([o for o in here if o["arm"] == PICKED], ALL).mean()), "")
            )
            picked = [one["picked"] for one in here if one["arm"] == PICKED]
            rows.append((f"{full}.picked", ", ".join(picked), ""))
            ours = pooled([one for one in here if one["arm"] == PICKED], ALL).mean()
            for arm, ending in ((ORACLE, "oracle"), (OBSERVERS[-1], "observer")):
                best = [one for one in here if one["arm"] == arm]
                if best:
                    rows.append((f"{full}.share_of_{ending}", float(ours / pooled(best, ALL).mean()), "x"))
    if "selector" in done:
        by_target = choice.rank_correlation(done["selector"])
        rows.append(("selector.rank_corr", float(np.mean(list(by_target.values()))), ""))
        rows += [(f"selector.rank_corr {target}", value, "") for target, value in by_target.items()]
    rows += anil_gains([found for key, found in done.items() if key.startswith("anil-")])
    rows += reptile_gains(done)
    for name in ("world", "beauty"):
        found = done.get(f"{name}.cold")
        if not found:
            continue
        mean = {key: float(np.mean([one[key] for one in found])) for key in found[0]}
        rows += [
            (f"{name}.cold_item_recall10", mean["ours_cold_hr10"], ""),
            (f"{name}.cold_item_recall10_uncalibrated", mean["before_cold_hr10"], ""),
            (f"{name}.cold_item_vs_knn", mean["ours_cold_hr10"] / mean["knn_cold_hr10"], "x"),
            (f"{name}.warm_loss_pct", 100 * (1 - mean["ours_warm_ndcg10"] / mean["never_warm_ndcg10"]), "%"),
            (
                f"{name}.warm_loss_pct_uncalibrated",
                100 * (1 - mean["before_warm_ndcg10"] / mean["never_warm_ndcg10"]),
                "%",
            ),
        ]
    return rows


def anil_gains(worlds: Sequence[list[Outcome]]) -> list[Figure]:
    """`anil` over `whole`, by support set."""
    rows: list[Figure] = []
    for name, share in (("anil", 1.0), ("anil10", 0.1)):
        here = [[one for one in world if one["share"] == share] for world in worlds]
        for k in SUPPORTS:
            ours, theirs = (over_seeds(here, arm, f"users with {k} interactions") for arm in ("anil", "whole"))
            rows += intervals(f"{name}.k{k}_gain_pct", ours, theirs)
        kept = [one["user_states"] > 0 for world in here for one in world if one["arm"] == "anil"]
        rows += [(f"{name}.kept", f"{sum(kept)} of {len(kept)}", "")] if kept else []
    return rows


def reptile_gains(done: Mapping[str, Any]) -> list[Figure]:
    """A learned start over one trained for as long, and over one without the episodes."""
    learned = [found for key, found in done.items() if key.startswith("reptile-")]
    plain = [[one for one in found if one["share"] == 0.1] for key, found in done.items() if key.startswith("anil-")]
    rows: list[Figure] = []
    for k in SUPPORTS:
        part = f"users with {k} interactions"
        ours = over_seeds(learned, "reptile", part)
        rows += intervals(f"meta.k{k}_gain_pct", ours, over_seeds(learned, "longer", part))
        if len(plain) == len(learned):
            rows += intervals(f"meta.k{k}_over_shorter_pct", ours, over_seeds(plain, "whole", part))
    return rows


def over_seeds(worlds: Sequence[Sequence[Outcome]], arm: str, part: str) -> Array:
    """NDCG@10 of every user of every world, the mean of the seeds."""
    columns = [[one["parts"][part] for one in world if one["arm"] == arm] for world in worlds]
    return np.concatenate([np.zeros(0), *(np.mean(column, axis=0) for column in columns)])


def gains(name: str, outcomes: Sequence[Outcome], part: str) -> list[Figure]:
    """The picked arm over scratch, with its interval."""
    ours, theirs = (pooled([one for one in outcomes if one["arm"] == arm], part) for arm in (PICKED, SCRATCH))
    return intervals(name, ours, theirs)


def intervals(name: str, ours: Array, theirs: Array) -> list[Figure]:
    """A gain in percent and both its ends; none without users."""
    found = gain(ours, theirs) if len(ours) else (None, None, None)
    return [
        (name + ending, value, "%")
        for ending, value in zip(("", "_low", "_high"), found, strict=True)
        if value is not None
    ]


if __name__ == "__main__":
    main()
