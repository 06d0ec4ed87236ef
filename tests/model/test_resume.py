"""Same seed, same weights; killed anywhere and run again: the same weights too."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from pipeline.settings import CHECKOUT
from pipeline.training.checkpoints import FILE
from tests.model.interruptions import kill_beyond
from tests.training_data import OUTPUT

PROGRAM = """
import sys
from pathlib import Path
from pipeline.training import loop
from tests.training_data import Chain
loop.CHECKPOINT_SECONDS = 0.0  # after every step
Chain(Path(sys.argv[1])).run(WORK)
"""


PRETRAINING = PROGRAM.replace("WORK", '"pretrain", epochs=3, average_epochs=0.5')


def start(world, program: str = PRETRAINING) -> subprocess.Popen:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-c", program, str(world)], cwd=CHECKOUT, env=environment)


def weights(chain) -> str:
    return json.loads((chain.folder("models/backbone") / "model.json").read_text())["weights_sha256"]


@pytest.fixture
def fresh(chain, tmp_path):
    return chain.copy_to(tmp_path / "world")


def test_same_seed_same_weights_and_another_seed_others(fresh):
    fresh.run("pretrain", epochs=2)
    first = weights(fresh)
    fresh.run("pretrain", epochs=2)
    assert weights(fresh) == first
    fresh.run("pretrain", epochs=2, seed=8)
    assert weights(fresh) != first


def test_killed_twice_ends_as_if_never_killed(fresh):
    assert start(fresh.root).wait() == 0
    uninterrupted = weights(fresh)
    history = (fresh.folder("models/backbone") / "history.jsonl").read_bytes()
    checkpoint = fresh.root / "scratch" / "pretrain" / "pretrain" / FILE
    for beyond in (2, 11):  # in the first epoch, and later
        kill_beyond(start(fresh.root), checkpoint, beyond)
    assert start(fresh.root).wait() == 0
    assert weights(fresh) == uninterrupted
    assert (fresh.folder("models/backbone") / "history.jsonl").read_bytes() == history


@pytest.mark.parametrize(
    ("stage", "changed", "second"),
    [("distill", {}, "untaught"), ("prune", {"rounds": 2, "recovery_epochs": 8, "batch_users": 8}, "prune-2")],
)
def test_compression_killed_in_its_second_training_ends_as_if_never_killed(chain, tmp_path, stage, changed, second):
    whole, fresh = chain.copy_to(tmp_path / "whole"), chain.copy_to(tmp_path / "world")
    whole.run(stage, **changed)
    program = PROGRAM.replace("WORK", f"{stage!r}, **{changed!r}")
    begun = fresh.root / "scratch" / stage / second / FILE
    kill_beyond(start(fresh.root, program), begun, 3)
    assert start(fresh.root, program).wait() == 0
    for path in sorted(whole.folder(OUTPUT[stage]).iterdir()):
        assert (fresh.folder(OUTPUT[stage]) / path.name).read_bytes() == path.read_bytes(), path.name
