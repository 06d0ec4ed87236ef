"""`make bench-nightly`: from a bare clone to a promoted model, and the second night.

Clones the checkout's HEAD into a temporary folder and runs there what the README says: `make run`, twice. Figures:

* `first_run_s`: both environments, the stack, the whole run of the default dataset;
* `second_run_s`: nothing changed, so nothing is trained;
* `second_run_trained`: cacheable stages that ran in the second run all the same;
* `peak_memory_gib`: the proportional set size of everything together, sampled every second;
* `<stage>_s`, `<stage>_share_pct`: wall time of each stage in the first run, and its share of their sum.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import psutil
from figures import Figure, write_figures

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pipeline.graph import load_graph, split_address
from pipeline.runs.manifest import read_manifests
from pipeline.settings import CHECKOUT
from tests.stack_fixture import free_ports

GIB = 2**30


class MemoryOf(threading.Thread):
    """Samples the memory of every process whose environment names `home`, and of this process's children."""

    def __init__(self, home: Path) -> None:
        super().__init__(daemon=True)
        self.home, self.peak, self.done = str(home), 0, threading.Event()

    def run(self) -> None:
        """Sample until `done` is set."""
        while not self.done.wait(1):
            self.peak = max(self.peak, sum(self._proportional(p) for p in psutil.process_iter()))

    def _proportional(self, process: psutil.Process) -> int:
        # a process that ends while it is looked at no longer counts
        with suppress(psutil.Error):
            if process.environ().get("WARMSTART_HOME") == self.home:
                return int(process.memory_full_info().pss)
        return 0


def main() -> None:
    """Run the benchmark and write its figures."""
    with tempfile.TemporaryDirectory(prefix="warmstart-bench-") as scratch:
        clone, home = Path(scratch) / "clone", Path(scratch) / "home"
        subprocess.run(["git", "clone", "--quiet", str(CHECKOUT), str(clone)], check=True)
        airflow, mlflow, log = (str(port) for port in free_ports(3))
        environment = os.environ | {
            "WARMSTART_HOME": str(home), "WARMSTART_AIRFLOW_PORT": airflow,
            "WARMSTART_MLFLOW_PORT": mlflow, "WARMSTART_LOG_PORT": log,
        }  # fmt: skip
        memory = MemoryOf(home)
        memory.start()
        try:
            first = _timed(clone, environment)
            second = _timed(clone, environment)
        finally:
            memory.done.set()
            subprocess.run(["make", "down"], cwd=clone, env=environment, check=True)
        records = sorted((home / "records").iterdir(), key=lambda path: path.stat().st_mtime)
        graph = load_graph(clone / "dvc.yaml")
        again = [a for a, m in read_manifests(records[1]).items() if m["source"] == "executed"]
        trained = [a for a in again if not graph.stages[split_address(a)[0]].always_changed]
        figures: list[Figure] = [
            ("first_run_s", first, "s"),
            ("second_run_s", second, "s"),
            ("second_run_trained", len(trained), "stages"),
            ("peak_memory_gib", memory.peak / GIB, "GiB"),
        ]
        write_figures("nightly", figures + _shares(records[0]))


def _timed(clone: Path, environment: dict[str, str]) -> float:
    began = time.monotonic()
    subprocess.run(["make", "run"], cwd=clone, env=environment, check=True)
    return time.monotonic() - began


def _shares(record: Path) -> list[Figure]:
    seconds: dict[str, float] = defaultdict(float)
    for address, manifest in read_manifests(record).items():
        started, ended = (datetime.fromisoformat(manifest[end]) for end in ("started", "ended"))
        seconds[split_address(address)[0]] += (ended - started).total_seconds()
    total = sum(seconds.values())
    times = [(f"{name}_s", spent, "s") for name, spent in seconds.items()]
    return times + [(f"{name}_share_pct", 100 * spent / total, "%") for name, spent in seconds.items()]


if __name__ == "__main__":
    main()
