"""The parts of `make bench-model` that need no data: reading, training and ranking speed on drawn sequences."""

from __future__ import annotations

import multiprocessing
import resource
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np

INTERACTIONS, ITEMS = 10_000_000, 20_000


def prepare() -> dict[str, float]:
    """Ten million drawn interactions of 200,000 users: from a table to what training reads."""
    import polars as pl

    from pipeline.data.indexing import index_rows, training_sequences
    from pipeline.data.sequences import write_sequences
    from pipeline.data.splits import split_leave_one_out

    with tempfile.TemporaryDirectory(prefix="warmstart-bench-") as scratch:
        path = Path(scratch) / "interactions.arrow"
        # in a process of its own, so that the memory of drawing is not counted
        drawing = multiprocessing.get_context("spawn").Process(target=_draw, args=(path,))
        drawing.start()
        drawing.join()
        rows = pl.read_ipc(path.read_bytes())
        items = pl.DataFrame({"item_id": pl.Series(np.arange(ITEMS)).cast(pl.String).str.zfill(10)})
        columns = rows.estimated_size()
        before, began = _status_bytes("VmRSS"), cpu_seconds()
        Path("/proc/self/clear_refs").write_text("5")  # Linux measures the peak from here on
        parts = split_leave_one_out(index_rows(rows, items, "d"))
        write_sequences(Path(scratch) / "sequences", training_sequences(parts, ["view"]))
        spent, grown = cpu_seconds() - began, _status_bytes("VmHWM") - before
    speed = INTERACTIONS / spent
    return {"prepare.interactions_per_cpu_second": speed, "prepare.memory_x": (grown + columns) / columns}


def _draw(path: Path) -> None:
    import polars as pl

    draws = np.random.default_rng(0)
    moments = pl.Series(draws.integers(14 * 10**14, 16 * 10**14, INTERACTIONS)).cast(pl.Datetime("us", "UTC"))
    users = draws.integers(0, INTERACTIONS // 50, INTERACTIONS)
    pl.DataFrame(
        {
            "user_id": pl.Series(users).cast(pl.String).str.zfill(16),
            "item_id": pl.Series(draws.integers(0, ITEMS, INTERACTIONS)).cast(pl.String).str.zfill(10),
            "timestamp": moments,
            "event": pl.repeat("view", INTERACTIONS, eager=True),
            "value": pl.Series(draws.random(INTERACTIONS).astype(np.float32)),
            "created_at": moments,
        }
    ).sort("user_id", "timestamp", "item_id").write_ipc(path)


def train() -> dict[str, float]:
    """One epoch of 2,000 histories of 51, the steps of the loop itself."""
    import torch

    from pipeline.models.item_encoder import Catalogue
    from pipeline.models.recommender import SequentialRecommender
    from pipeline.models.spec import ModelSpec, uniform_layers
    from pipeline.training.batches import TrainingDomain
    from pipeline.training.loop import Training
    from pipeline.training.next_item import NextItem
    from pipeline.training.plan import Plan
    from pipeline.training.randomness import make_deterministic, seed_torch

    n_items, users, length = 1_700, 2_000, 50
    make_deterministic(1, 64)
    seed_torch(0, "bench")
    spec = ModelSpec(
        64, 32, uniform_layers(2, 2, 256), length, 64, 1, 1, (), ("none",), ("none",), (("d", n_items),), 0.2
    )
    catalogue = Catalogue(
        {}, torch.zeros(n_items + 1, 1, dtype=torch.int64), torch.zeros(n_items + 1, 1), torch.arange(n_items + 1) > 0
    )
    domain = SimpleNamespace(
        name="d",
        catalogue=catalogue,
        profile_features=torch.zeros(users, 1),
        profile_attributes=torch.zeros(users, 1, dtype=torch.int64),
    )
    offsets = np.arange(users + 1) * (length + 1)
    items = np.random.default_rng(0).integers(1, n_items + 1, offsets[-1]).astype(np.int32)
    with tempfile.TemporaryDirectory(prefix="warmstart-bench-") as scratch:
        training = Training(
            SequentialRecommender(spec),
            [TrainingDomain("d", offsets, items)],
            NextItem([domain], 5_000, 2_048),  # type: ignore[list-item]  # all of a domain that is read
            lambda model: None,
            Plan("bench", 0, 3, 0, 1e-3, 0.05, 128, 4),
            Path(scratch),
        )
        training._run_epoch(training._epoch(0))
        began, before = cpu_seconds(), training.progress.targets
        training.progress.step_in_epoch = 0
        training._run_epoch(training._epoch(1))
        return {"train.positions_per_cpu_second": (training.progress.targets - before) / (cpu_seconds() - began)}


def rank(n_items: int, users: int) -> dict[str, float]:
    """Drawn states and catalogue, through the evaluator."""
    import torch

    from pipeline.data.training_set import Holdout
    from pipeline.evaluation.ranking import rank_holdout

    torch.set_num_threads(1)
    draws, seen = np.random.default_rng(0), 50
    states = torch.from_numpy(draws.normal(size=(users, 64)).astype(np.float32))
    vectors = torch.from_numpy(draws.normal(size=(n_items + 1, 64)).astype(np.float32))
    told = np.full(users, "warm")
    holdout = Holdout(
        "test", np.arange(users, dtype=np.int32), draws.integers(1, n_items + 1, users).astype(np.int32),
        np.zeros(users, np.int64), np.arange(users + 1) * seen,
        draws.integers(1, n_items + 1, users * seen).astype(np.int32), np.zeros(users * seen, np.int64),
        told, told, None,
    )  # fmt: skip
    scorer = SimpleNamespace(scores=lambda requests: (states[torch.from_numpy(requests.users)] @ vectors.T).numpy())
    began = cpu_seconds()
    rank_holdout(scorer, holdout, n_items, top=20)
    return {f"rank.users_per_cpu_second_at_{n_items}": users / (cpu_seconds() - began)}


def cpu_seconds() -> float:
    """User and system time of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _status_bytes(name: str) -> int:
    """VmRSS, what this process holds, or VmHWM, the most it held."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {name}")
