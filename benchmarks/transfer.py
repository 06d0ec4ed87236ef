"""`make bench-transfer`: does what was learned elsewhere help, how is it best brought, and what of new items?

* `world`: three worlds (`world:small`), target harbour with 10 % and with all of its users, sources metro and valley;
* `beauty`: amazon beauty2014 with 1 % and 10 % of its users, sources sports2014 and 8,000 users of games2018, none a
  user of a target; `scientific`: scientific2018 with all of its users, the same backbone;
* `selector`: the order of sources and settings told before training (transfer/selector.py);
* `reptile`: the same worlds with 10 % of the users, `whole` from a backbone of 8 epochs and 3 by episodes of Reptile,
  from one of 11 epochs, and from the one of 8; `anil`: fine-tuned with and without a state of each user's own (arm
  `anil` against `whole`); three seeds each, users cut to k = 1, 5 and 10 interactions, the support set;
* `world.cold`, `beauty.cold`: harbour with its sources, beauty2014 alone; 10 % of the items in no training sequence.

`gain_pct`: NDCG@10 of the arm that validation picks over scratch at equal steps, all test users; `fewshot_gain_pct`: of
users whose history is cut to 5; `picked`: the arms. `share_of_oracle`: the picked arm's by that of the known truth;
`share_of_observer`: by that of an ideal observer who has to infer tastes and count popularity (transfer/observer.py).
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
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["POLARS_MAX_THREADS"] = "1"

sys.path.insert(0, str(Path(__file__).resolve().parent / "transfer"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from figures import Figure, write_figures
from intervals import gains
from meta_learning import anil, anil_gains, reptile, reptile_gains
from observer import OBSERVERS
from prepared import WORLDS
from removed_items import beauty_cold, cold_figures, world_cold
from selector import candidates, selector_figures
from shops import beauty, scientific
from worlds import world

from pipeline.augmentation.parts import ALL
from pipeline.runs.attempt import write_json
from pipeline.settings import CHECKOUT, Settings
from pipeline.transfer.experiment_arms import ORACLE
from pipeline.transfer.four_states import states_table
from pipeline.transfer.outcome import PICKED, page, pooled, table, with_picked

FEW = "users with 5 interactions"


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
    parts |= {"selector": lambda: candidates(kept / "selector", raw)}
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
    rows += selector_figures(done["selector"]) if "selector" in done else []
    rows += anil_gains([found for key, found in done.items() if key.startswith("anil-")])
    return rows + reptile_gains(done) + cold_figures(done)


if __name__ == "__main__":
    main()
