"""`make bench-peers`: SASRec of RecBole and of RecTools beside ours, on the same split and by the same evaluator.

scientific2018 through `WARMSTART_DATA` (default `../shared/data`): leave-one-out, every item ranked, seen items masked,
one thread. The peers stand in environments of their own (benchmarks/peers/*.txt), made on first use. Every library is
trained with every setting of `SETTINGS`; validation chooses the setting, and the best epoch's lists of ten are judged.
All train one training at a time, none longer than `LIMIT` CPU-seconds. *IDs only* is ours without text and attributes.

* `peers.LIBRARY_speedup`: CPU-seconds to the library's best validation NDCG@10, by ours to the same value; validating
  is counted for ours only, text vectors, which are made once, for nobody (`…_with_text_vectors` counts them);
* `peers.ids_only_LIBRARY_speedup`: the same of ours without text and attributes, 0 where it never gets there;
* `peers.ndcg10_gain_pct`: ours against the better peer on the test users, lower end of the 95 % bootstrap, paired.

Every training leaves `curve.json` and `test.npy` under `$WARMSTART_HOME/bench/peers/`; those that are there are not run
again. `--only` trains some, `--report` none. The page with the curves: `$WARMSTART_HOME/bench/peers/report.html`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "peers"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from comparing import Side, compare
from figures import commit, write_figures
from model import RECIPE
from page import render

from pipeline.settings import CHECKOUT, settings
from requirements.install import find_uv, install, is_finished, uv_environment

HERE = Path(__file__).resolve().parent / "peers"
THREADS = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
DATA = Path(os.environ.get("WARMSTART_DATA", CHECKOUT.parent / "shared" / "data"))
SHOP = "scientific2018"
PEERS = ("recbole", "rectools")
TITLES = {"ours": "ours", "ours_ids": "ours, IDs only", "recbole": "RecBole", "rectools": "RecTools"}
LIMIT = 500.0  # CPU-seconds of one training
SAME = {"layers": 2, "heads": 2, "length": 20, "learning_rate": 0.002, "batch_users": 128, "epochs": 30}
SETTINGS = [
    {"width": width, "dropout": dropout, **SAME, "patience": 3, "seed": 1} for width, dropout in ((64, 0.2), (64, 0.5))
]  # a history of 20 is whole for 99 of 100 users


def main() -> None:
    """Train what is missing, then compare what is there."""
    words = argparse.ArgumentParser(description="RecBole, RecTools and ours, side by side.")
    words.add_argument("--only", nargs="*", help="trainings by name, e.g. recbole.0: the library and the setting")
    words.add_argument("--report", action="store_true", help="train nothing")
    asked = words.parse_args()
    root = settings().home / "bench" / "peers"
    shop, source = root / SHOP, DATA / "amazon"
    if not (source / SHOP).is_dir():
        sys.exit(f"bench-peers needs {source / SHOP}, which is not there; set WARMSTART_DATA to a folder that has it.")
    if not (shop / "prepared.json").exists():
        # in a process of its own: it gets a home of its own
        given = [str(HERE / "preparing.py"), str(source), SHOP, str(shop), *RECIPE]
        subprocess.run([sys.executable, *given], check=True, env={**os.environ, **THREADS})
    trainings = [f"{name}.{number}" for name in TITLES for number in range(len(SETTINGS))]
    for name in [] if asked.report else asked.only or trainings:
        if not (shop / "runs" / name / "done").exists():
            train(name, shop, root)
    sides = [Side.read(name, title, shop / "runs", SETTINGS) for name, title in TITLES.items()]
    table = compare([side for side in sides if side], shop)
    (root / "report.html").write_text(render(table, SHOP, commit()), "utf-8")
    write_figures("peers", table.figures())
    print(f"curves: {root / 'report.html'}")


def train(name: str, shop: Path, root: Path) -> None:
    """One library, one setting, in a process of its own."""
    library, number = name.rsplit(".", 1)
    folder = shop / "runs" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    print(name, flush=True)
    program, more = HERE / f"sasrec_{library}.py", []
    python = sys.executable
    if library in PEERS:
        python = str(environment(library, root) / "bin" / "python")
    else:
        program = HERE / "sasrec_ours.py"
        more = ["--prepared", str(shop), *(["--ids-only"] if library == "ours_ids" else [])]
    setting = json.dumps(SETTINGS[int(number)])
    command = [python, str(program), str(shop / "split.npz"), str(folder), setting, str(LIMIT), *more]
    with (folder / "log.txt").open("w") as said:
        code = subprocess.call(command, cwd=folder, env={**os.environ, **THREADS}, stdout=said, stderr=said)
    if code:
        sys.exit(f"{name} ended with {code}; see {folder / 'log.txt'}")
    (folder / "done").touch()


def environment(library: str, root: Path) -> Path:
    """The library's own environment, made where it is not."""
    venv, wanted = root / "environments" / library, [f"benchmarks/peers/{library}.txt"]
    os.chdir(CHECKOUT)
    if not is_finished(venv, wanted):
        venv.parent.mkdir(parents=True, exist_ok=True)
        install(find_uv(), venv, wanted, uv_environment(os.environ))
    return venv


if __name__ == "__main__":
    main()
