"""The stage augment: what it writes, that arms are equal, who reads synthetic rows, and what unusual input gets."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import polars as pl
import pytest
import torch

from pipeline.augmentation import experiment
from pipeline.augmentation.gate import GateVerdict
from pipeline.augmentation.mixing import mixed
from pipeline.augmentation.rows import FILE, Rows, read_rows, write_rows
from pipeline.exit_codes import BadConfiguration
from pipeline.graph import load_graph
from pipeline.settings import CHECKOUT
from pipeline.stages import augment, transfer
from pipeline.training.checkpoints import FILE as CHECKPOINT
from tests.training_data import Chain, rewrite_without_training, write_training_set

OUTPUTS = ("data/synthetic", "reports/augmentation")
PROGRAM = """
import sys
from pathlib import Path
from pipeline.augmentation.gan import training
from tests.training_data import Chain
training.CHECKPOINT_SECONDS = 0.0  # after every step
Chain(Path(sys.argv[1])).run("augment", enabled=True, shares=[1.0])
"""


@pytest.fixture(scope="module")
def augmented(chain, tmp_path_factory) -> Chain:
    """The chain with augmentation switched on."""
    copy = chain.copy_to(tmp_path_factory.mktemp("augmented"))
    copy.run("augment", enabled=True, shares=[0.5, 1.0])
    return copy


def about(chain: Chain) -> dict:
    return json.loads((chain.folder("reports/augmentation") / "augment.json").read_text())


def digests(chain: Chain, *names: str) -> dict[str, str]:
    files = [path for name in names or OUTPUTS for path in sorted(chain.folder(name).iterdir())]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def always(self) -> GateVerdict:
    return GateVerdict(True, ("told so",), ())


def test_switched_off_it_says_so_and_fine_tuning_is_as_it_was(chain, tmp_path):
    assert chain.summaries["augment"].found == "switched off (augment.enabled=false): passes through"
    assert not (chain.folder("data/synthetic") / FILE).exists()
    without = chain.copy_to(tmp_path)
    without.folder("data/synthetic").rmdir()
    without.run("transfer")
    assert digests(without, "models/teacher") == digests(chain, "models/teacher")


def test_switched_off_it_loads_nothing_heavy():
    code = (
        "import sys, pathlib, tempfile; from pipeline.stages import augment; from pipeline.runs.contract import Job\n"
        "out = pathlib.Path(tempfile.mkdtemp())\n"
        "params = augment.Params(seed=1, enabled=False, budget_cpu_seconds=1, source_steps=1, target_steps=1,"
        " adversarial_steps=1, shares=[1], epochs=1)\n"
        "augment.run({}, {'data/synthetic': out, 'reports/augmentation': out}, params, Job(out, 't'))\n"
        "assert not {'torch', 'scipy', 'polars', 'numpy'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=CHECKOUT)


def test_arms_take_equally_many_steps(augmented):
    steps = about(augmented)["trial"]["steps"]
    augmenting = {arm: ["0.5", "1"] for arm in ("popularity resampling", "item-crop", "gan")}
    assert {arm: sorted(by) for arm, by in steps.items()} == {"none": ["0"], **augmenting}
    assert len({count for by in steps.values() for count in by.values()}) == 1


def test_the_report_is_one_page_with_every_figure(augmented):
    page = (augmented.folder("reports/augmentation") / "report.html").read_text()
    assert "<script" not in page
    assert "http" not in page
    assert page.count("<svg") >= 2
    told = ("two-sample", "density", "coverage", "popularity divergence", "transition agreement", "nearest", "copied")
    for words in (*told, "item-crop", "popularity resampling", "users with 0 interactions", "tail items"):
        assert words in page, words
    tstr = about(augmented)["quality"]["tstr"]
    assert tstr["share"] == pytest.approx(tstr["made"] / tstr["real"])
    metrics = augmented.summaries["augment"].metrics
    assert {"synthetic_rows", "tstr_share", "copied", "two_sample", "gain.tail_items"} <= set(metrics)


def test_killed_anywhere_it_ends_with_the_same_bytes(chain, tmp_path):
    """The same seed gives the same bytes, too: one run is whole, the other in pieces."""
    killed, whole = (chain.copy_to(tmp_path / name) for name in ("killed", "whole"))
    whole.run("augment", enabled=True, shares=[1.0])
    scratch = killed.root / "scratch" / "augment"
    for sign in (scratch / "generator" / CHECKPOINT, scratch / "trial" / "item-crop-1" / CHECKPOINT):
        process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(killed.root)], cwd=CHECKOUT, env=_one_thread())
        deadline = time.monotonic() + 120
        while not sign.exists():
            assert process.poll() is None, "it ended before it was killed"
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    subprocess.run([sys.executable, "-c", PROGRAM, str(killed.root)], cwd=CHECKOUT, env=_one_thread(), check=True)
    assert digests(killed) == digests(whole)


def test_what_is_fed_in_is_marked_counted_and_trained_on(chain, tmp_path, monkeypatch, data):
    monkeypatch.setattr(experiment.Experiment, "verdict", always)
    fed = chain.copy_to(tmp_path)
    holdout = (fed.root / "training" / "t" / "holdout.parquet").read_bytes()
    summary = fed.run("augment", enabled=True, shares=[1.0])
    table = pl.read_parquet(fed.folder("data/synthetic") / FILE)
    assert table["synthetic"].all()
    assert summary.metrics["synthetic_rows"] == table.height > 0
    assert summary.metrics["synthetic_share"] == pytest.approx(table.height / (table.height + len(data.items)))
    rows = read_rows(fed.folder("data/synthetic"), data)
    assert rows is not None
    _given_items_are_the_users_own(rows, data)
    taught = fed.run("transfer")
    assert taught.metrics["synthetic_rows"] == table.height
    assert "made rows beside the real ones" in taught.found
    told = json.loads((fed.folder("models/teacher") / "model.json").read_text())
    assert told["synthetic_rows"] == table.height
    assert digests(fed, "models/teacher")["model.safetensors"] != digests(chain, "models/teacher")["model.safetensors"]
    assert (fed.root / "training" / "t" / "holdout.parquet").read_bytes() == holdout


def _given_items_are_the_users_own(rows: Rows, data) -> None:
    for number in range(len(rows)):
        span = slice(rows.offsets[number], rows.offsets[number + 1])
        given = rows.items[span][~rows.made[span]]
        own, _ = data.sequences.of_user(int(rows.users[number]))
        assert rows.made[span].any()
        assert len(given) <= 1 or set(given[:-1].tolist()) <= set(own.tolist())


def test_held_out_rows_are_the_real_ones(opened, teacher):
    domain = opened(teacher)
    rows = Rows(np.array([0, 3]), np.array([1, 2, 3]), np.array([5]), np.ones(3, dtype=bool))
    more, training = mixed(domain, rows)
    n = domain.data.n_users
    assert more.data is domain.data  # the same held-out rows
    assert torch.equal(more.profile_features[:n], domain.profile_features)
    assert torch.equal(more.profile_features[n], domain.profile_features[5])
    assert training.items[-3:].tolist() == [1, 2, 3]
    assert len(training.offsets) == n + 2


def test_only_fine_tuning_reads_synthetic_rows():
    graph = load_graph(CHECKOUT / "dvc.yaml")
    readers = [stage.name for stage in graph.stages.values() if any(p.startswith("data/synthetic") for p in stage.data)]
    assert readers == ["transfer"]


def test_rows_that_are_not_marked_are_refused(tmp_path, data):
    write_rows(tmp_path, Rows(np.array([0, 2]), np.array([1, 2]), np.array([0]), np.ones(2, dtype=bool)))
    pl.read_parquet(tmp_path / FILE).with_columns(synthetic=pl.lit(False)).write_parquet(tmp_path / FILE)
    with pytest.raises(BadConfiguration, match="not marked as synthetic"):
        read_rows(tmp_path, data)


# What is unusual ends with no augmentation, and says why.


@pytest.fixture
def bare(tmp_path):
    def make(**sizes: int) -> Chain:
        chain = Chain(write_training_set(tmp_path, {"a": ["source"], "t": ["target"]}, **sizes))
        chain.run("pretrain", epochs=1)
        return chain

    return make


def test_a_target_without_interactions(chain, tmp_path):
    cold = chain.copy_to(tmp_path)
    rewrite_without_training(cold.root / "training", "t")
    assert "t has no training interactions: there is nothing to imitate" in cold.run("augment", enabled=True).found
    assert "nothing to imitate" in (cold.folder("reports/augmentation") / "report.html").read_text()
    assert "zero-shot" in cold.run("transfer").found


def test_a_target_with_one_item(bare):
    chain = bare(users=10, items=1)
    assert "t has one item with training interactions" in chain.run("augment", enabled=True).found


def test_a_target_with_a_handful_of_users(bare):
    chain = bare(users=8)
    assert "too few to imitate, 10 are wanted" in chain.run("augment", enabled=True).found


def test_a_generator_that_diverges(chain, tmp_path):
    poor = chain.copy_to(tmp_path)
    found = poor.run("augment", enabled=True, source_steps=0, target_steps=2, learning_rate=float("inf")).found
    assert found.startswith("passes through: the generator failed: a figure is not finite at step 2")
    assert set(digests(poor)) == {"augment.json", "report.html"}
    assert "it has diverged" in (poor.folder("reports/augmentation") / "report.html").read_text()


def test_thin_users_only(chain, tmp_path):
    thin = chain.copy_to(tmp_path)
    thin.run("augment", enabled=True, shares=[1.0], thin=50)
    assert set(about(thin)["trial"]["shares"]) == {"none", "popularity resampling", "item-crop", "gan"}


def test_more_than_the_budget_ends_with_no_augmentation(chain, tmp_path):
    poor = chain.copy_to(tmp_path)
    found = poor.run("augment", enabled=True, budget_cpu_seconds=0.01).found
    assert "augment.budget_cpu_seconds is the limit" in found
    assert set(digests(poor)) == {"augment.json", "report.html"}


def test_a_share_of_nothing(chain, tmp_path):
    with pytest.raises(BadConfiguration, match=r"augment\.shares has 0"):
        chain.copy_to(tmp_path).run("augment", enabled=True, shares=[0.0])


def test_parameters_are_the_same_everywhere():
    # the trial stands for the fine-tuning that follows: what shapes both has the same defaults
    for name in ("dropout", "id_dropout", "full_softmax_items", "sampled_items"):
        assert augment.Params.model_fields[name].default == transfer.Params.model_fields[name].default


def _one_thread() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}
