"""Meta-learning: what an episode does to the weights, and that a killed one leaves no trace."""

from __future__ import annotations

import json

import pytest
import torch

from pipeline.data.training_set import load_domain
from pipeline.stages.pretrain import Params
from pipeline.training.batches import EpochBatches
from pipeline.training.checkpoints import FILE
from pipeline.training.domains import open_domain
from pipeline.training.meta import MetaTraining
from pipeline.training.next_item import NextItem
from pipeline.training.randomness import make_deterministic
from pipeline.training.weights import load_model, weights_hash
from tests.model.interruptions import kill_beyond
from tests.model.test_resume import PROGRAM, fresh, start, weights  # noqa: F401

SHORT = {"epochs": 1, "meta_epochs": 2, "meta_groups": 2, "meta_steps": 2}


@pytest.fixture
def source(chain):
    make_deterministic(1, 0)
    model = load_model(chain.folder("models/backbone"))
    data = load_domain(chain.root / "training", "a")
    return model, open_domain(data, chain.root / "vectors", model.spec, torch.device("cpu"))


def training(chain, source, scratch, **changed) -> MetaTraining:
    model, domain = source
    params = Params.model_validate(chain.params("pretrain").model_dump() | SHORT | {"batch_users": 8} | changed)
    plan = params.meta_plan("pretrain", 1.0)
    return MetaTraining(model, [domain.training], NextItem([domain], 100, 10), plan, scratch, params)


def test_the_gradient_of_fomaml_is_the_query_s_where_the_support_has_led(chain, source, tmp_path):
    model, domain = source
    model.eval()  # no dropout: the same loss twice
    loss = NextItem([domain], 100, 10)
    batches = EpochBatches([domain.training], 7, 0, model.spec.max_length, 8)
    support, query = batches[0], batches[1]
    one = training(chain, source, tmp_path, meta="fomaml", meta_inner_rate=0.5)
    before, one.support = weights_hash(model), [support]
    one._gradient(query)
    assert weights_hash(model) == before
    found = {name: weight.grad for name, weight in model.named_parameters()}
    moved = load_model(chain.folder("models/backbone"))
    loss(moved, support).backward()
    torch.nn.utils.clip_grad_norm_(moved.parameters(), 1.0)
    with torch.no_grad():
        for weight in moved.parameters():
            weight -= 0.5 * weight.grad if weight.grad is not None else 0.0
            weight.grad = None
    loss(moved, query).backward()
    for name, weight in moved.named_parameters():
        if weight.grad is not None:
            torch.testing.assert_close(found[name], weight.grad, atol=1e-6, rtol=1e-4)


def test_reptile_goes_a_part_of_the_way_of_ordinary_steps(chain, source, tmp_path):
    model, _ = source
    begun = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    ends = []
    for rate in (1.0, 0.25):
        model.load_state_dict(begun, strict=False)
        one = training(chain, source, tmp_path / str(rate), meta="reptile", meta_outer_rate=rate)
        one._step(one._epoch(0)[0])
        assert one.progress.step == 2
        ends.append({name: weight.detach().clone() for name, weight in model.named_parameters()})
    for name, start_ in begun.items():
        torch.testing.assert_close(ends[1][name], start_.lerp(ends[0][name], 0.25))
    assert any(not torch.equal(ends[0][name], weight) for name, weight in begun.items())


def test_the_last_weights_are_kept_and_no_average_of_what_was_on_the_way(chain, source, tmp_path, monkeypatch):
    one = training(chain, source, tmp_path, meta="reptile", average=0.9, average_epochs=0.5, meta_epochs=1)
    step, last = MetaTraining._step, {}

    def seen(self, episode):
        step(self, episode)
        last.update(self._copy())

    monkeypatch.setattr(MetaTraining, "_step", seen)
    one.run()
    assert all(torch.equal(weight, last[name]) for name, weight in one.model.named_parameters())


@pytest.mark.parametrize("method", ["reptile", "fomaml"])
def test_it_goes_on_from_ordinary_training_and_says_so(chain, tmp_path, method):
    other = chain.copy_to(tmp_path / "world")
    summary = other.run("pretrain", **SHORT, meta=method)
    assert summary.found.endswith(f"then 2 epochs of {method}, for what comes after some steps on a target")
    rows = [json.loads(line) for line in (other.folder("models/backbone") / "history.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert rows[0]["step"] < rows[1]["step"] < rows[2]["step"]
    assert all(row["train_loss"] > 0 for row in rows)
    first = weights(other)
    other.run("pretrain", **SHORT, meta=method)
    assert weights(other) == first


def test_killed_in_its_episodes_it_ends_as_if_never_killed(fresh, tmp_path):  # noqa: F811
    changed = {**SHORT, "meta": "fomaml", "batch_users": 8}
    fresh.run("pretrain", **changed)
    whole = weights(fresh)
    program = PROGRAM.replace("WORK", f'"pretrain", **{changed!r}')
    checkpoint = fresh.root / "scratch" / "pretrain" / "meta" / FILE
    kill_beyond(start(fresh.root, program), checkpoint, 3)
    assert not any(fresh.folder("models/backbone").iterdir())
    fresh.run("pretrain", **changed)
    assert weights(fresh) == whole
