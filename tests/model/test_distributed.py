"""Two processes under torchrun learn what one learns alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from pipeline.models import profile
from pipeline.settings import CHECKOUT
from pipeline.training.batches import Batch
from pipeline.training.distributed import Processes
from tests.model.interruptions import interrupted
from tests.training_data import Chain

# no dropout: every process draws its own
PLAIN = {"epochs": 2, "dropout": 0.0, "id_dropout": 0.0, "batch_users": 7, "average": 0.9}
PROGRAM = f"""
import logging, os, sys
from pathlib import Path
from pipeline.models import profile
from tests.training_data import Chain
logging.basicConfig(level="INFO")
profile.DOMAIN_DROPOUT = 0.0
rank = os.environ["RANK"]
Chain(Path(sys.argv[1])).copy_to(Path(sys.argv[2]) / ("rank" + rank)).run("pretrain", **{PLAIN!r})
"""


def history(chain) -> list[dict[str, float]]:
    return [json.loads(line) for line in (chain.folder("models/backbone") / "history.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("begun", [0, 5])  # steps that one process has taken before it was ended
def test_two_gloo_processes_give_the_loss_curve_of_one(world, tmp_path, monkeypatch, begun):
    monkeypatch.setattr(profile, "DOMAIN_DROPOUT", 0.0)
    alone = Chain(world).copy_to(tmp_path / "alone")
    if begun:
        with interrupted(monkeypatch, begun):
            Chain(world).copy_to(tmp_path / "rank0").run("pretrain", **PLAIN)
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += [str(program), str(world), str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(CHECKOUT)}
    together = subprocess.Popen(command, cwd=CHECKOUT, env=environment, stderr=subprocess.PIPE, text=True)
    alone.run("pretrain", **PLAIN)  # the others import torch meanwhile
    said = together.communicate()[1]
    assert together.returncode == 0, said
    assert said.count(f"continues at epoch 1, step {begun}\n") == (2 if begun else 0)
    one, two = history(alone), history(Chain(tmp_path / "rank0"))
    assert [row["step"] for row in one] == [row["step"] for row in two]
    for key in ("train_loss", "valid_ndcg10"):
        assert [row[key] for row in one] == pytest.approx([row[key] for row in two], rel=1e-4), key
    assert one[-1]["train_loss"] < 0.95 * one[0]["train_loss"]
    weights = [
        json.loads((tmp_path / f"rank{rank}" / "models/backbone/model.json").read_text())["weights_sha256"]
        for rank in (0, 1)
    ]
    assert weights[0] == weights[1]


def test_shares_are_the_batch():
    targets = np.arange(1, 16).reshape(5, 3)
    batch = Batch("d", np.arange(5), targets[:, :2], targets, targets)
    shares = [Processes(rank, 2).share(batch) for rank in range(2)]
    assert sorted(np.concatenate([share.users for share in shares])) == list(range(5))
    assert sum(share.n_targets for share in shares) == batch.n_targets
    assert len(Processes(7, 8).share(batch).users) == 0


def test_one_process_changes_nothing():
    weight = torch.nn.Parameter(torch.ones(2))
    assert Processes().add_up([weight], 3.0) == 3.0
    assert weight.grad is None
    assert Processes().from_first(lambda: 5) == 5
