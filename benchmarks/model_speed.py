"""The parts of `make bench-model` that need no data: how fast drawn sequences are read, trained on and ranked."""

from __future__ import annotations

import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pipeline.models.spec import ModelSpec
    from pipeline.training.loop import Training
    from pipeline.training.plan import Plan

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
    from pipeline.models.spec import ModelSpec, uniform_layers
    from pipeline.training.plan import Plan
    from pipeline.training.randomness import make_deterministic

    make_deterministic(1, 64)
    spec = ModelSpec(
        64, 32, uniform_layers(2, 2, 256), 50, 64, 1, 1, (), ("none",), ("none",), (("d", 1_700),), 0.2
    )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="warmstart-bench-") as scratch:
        training = _drawn_training(spec, 2_000, Plan("bench", 0, 3, 0, 1e-3, 0.05, 128, 4), Path(scratch), "cpu")
        positions, spent = _one_epoch(training, cpu_seconds)
    return {"train.positions_per_cpu_second": positions / spent}


def gpu(peak: float, width: int = 1024, layers: int = 8, length: int = 200, device: str = "cuda") -> dict[str, float]:
    """The share of a GPU's peak that training a trunk of 100M parameters uses: bfloat16, compiled, 1,700 items.

    Operations of a position are 6 a parameter and 12 · layers · width · length of attention, as if nothing were masked
    (PaLM, arXiv 2204.02311, appendix B); dropout, norms and the softmax over the items are counted as time alone.

    Args:
        peak: operations a second of the GPU, dense, in bfloat16.
    """
    import torch

    from pipeline.models.spec import ModelSpec, uniform_layers
    from pipeline.training.compiled import compiled
    from pipeline.training.plan import Plan
    from pipeline.training.randomness import make_deterministic

    make_deterministic(1, width)
    spec = ModelSpec(
        width, 64, uniform_layers(layers, width // 64, 4 * width), length, 64, 1, 1, (), ("none",), ("none",),
        (("d", 1_700),), 0.2,
    )  # fmt: skip
    plan = Plan("bench", 0, 3, 0, 1e-3, 0.05, 128, 4, bf16=True, compiled=True)

    def seconds() -> float:
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    with tempfile.TemporaryDirectory(prefix="warmstart-bench-") as scratch:
        training = _drawn_training(spec, 4_096, plan, Path(scratch), device)
        with compiled(training.model.trunk, wanted=plan.compiled):
            positions, spent = _one_epoch(training, seconds)
    parameters = sum(weight.numel() for weight in training.model.trunk.parameters())
    operations = positions / spent * (6 * parameters + 12 * layers * width * length)
    return {"gpu.mfu": operations / peak, "gpu.parameters": parameters, "gpu.positions_per_second": positions / spent}


def _drawn_training(spec: ModelSpec, users: int, plan: Plan, scratch: Path, device: str) -> Training:
    """Of drawn histories, each one longer than the model reads, so that every position has a target."""
    import torch

    from pipeline.models.item_encoder import Catalogue
    from pipeline.models.recommender import SequentialRecommender
    from pipeline.training.batches import TrainingDomain
    from pipeline.training.loop import Training
    from pipeline.training.next_item import NextItem
    from pipeline.training.randomness import seed_torch

    ((name, n_items),), on = spec.domains, torch.device(device)
    seed_torch(0, "bench")
    catalogue = Catalogue(
        {},
        torch.zeros(n_items + 1, 1, dtype=torch.int64, device=on),
        torch.zeros(n_items + 1, 1, device=on),
        torch.arange(n_items + 1, device=on) > 0,
    )
    domain = SimpleNamespace(
        name=name,
        catalogue=catalogue,
        profile_features=torch.zeros(users, 1, device=on),
        profile_attributes=torch.zeros(users, 1, dtype=torch.int64, device=on),
    )
    offsets = np.arange(users + 1) * (spec.max_length + 1)
    items = np.random.default_rng(0).integers(1, n_items + 1, offsets[-1]).astype(np.int32)
    return Training(
        SequentialRecommender(spec).to(on),
        [TrainingDomain(name, offsets, items)],
        NextItem([domain], 5_000, 2_048),  # type: ignore[list-item]  # all of a domain that is read
        lambda model: None,
        plan,
        scratch,
    )


def _one_epoch(training: Training, clock: Callable[[], float]) -> tuple[int, float]:
    """Positions with a target and the time they took, in the second epoch: the first one warms up."""
    training._run_epoch(training._epoch(0))
    began, before = clock(), training.progress.targets
    training.progress.step_in_epoch = 0
    training._run_epoch(training._epoch(1))
    return training.progress.targets - before, clock() - began


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
