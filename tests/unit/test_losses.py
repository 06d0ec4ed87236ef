"""Losses: golden values, the sampled softmax against the full one, and the seeds' distillation example."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pipeline.models.item_encoder import Catalogue
from pipeline.models.recommender import SequentialRecommender
from pipeline.models.spec import uniform_layers
from pipeline.training import softmax
from pipeline.training.batches import Batch
from pipeline.training.gbce import beta, blocked_gbce
from pipeline.training.losses import (
    distillation_loss,
    full_candidates,
    next_item_loss,
    sampled_candidates,
)
from pipeline.training.next_item import NextItem
from tests.model.test_recommender import SPEC, catalogue

TRAINED = torch.tensor([False, True, True, True, False])


def test_full_softmax_golden():
    candidates = full_candidates(TRAINED)
    logits = torch.tensor([[1.0, 2.0, 3.0, 9.0], [0.0, 0.0, 0.0, 0.0]])
    loss = next_item_loss(logits, torch.tensor([2, 0]), candidates)
    first = math.log(math.exp(1) + math.exp(2) + math.exp(3)) - 3  # the untrained fourth item is no negative
    assert loss.item() == pytest.approx((first + math.log(3)) / 2, abs=1e-6)


def test_untrained_items_get_no_gradient():
    logits = torch.zeros(1, 4, requires_grad=True)
    next_item_loss(logits, torch.tensor([1]), full_candidates(TRAINED)).backward()
    assert logits.grad is not None
    assert logits.grad[0, 3] == 0
    assert torch.isfinite(logits.grad).all()


def test_sampled_partition_sum_is_unbiased():
    torch.manual_seed(0)
    n_items = 500
    trained = torch.ones(n_items + 1, dtype=torch.bool)
    trained[0] = False
    logits = torch.randn(n_items + 1)
    targets = torch.tensor([3, 8, 8])
    exact = logits[1:].exp().sum().item()
    estimates = []
    for _ in range(400):
        sample = sampled_candidates(trained, targets, 100)
        assert not (sample.items == 0).any()
        assert set(targets.tolist()) <= set(sample.items.tolist())
        estimates.append((logits[sample.items] + sample.log_weight).exp().sum().item())
    assert sum(estimates) / len(estimates) == pytest.approx(exact, rel=0.01)


def test_enough_draws_are_the_full_softmax():
    torch.manual_seed(0)
    trained = torch.ones(41, dtype=torch.bool)
    trained[0] = False
    logits = torch.randn(6, 41)
    targets = torch.tensor([1, 5, 9, 9, 40, 2])
    sample = sampled_candidates(trained, targets, 4000)
    columns = torch.searchsorted(sample.items, targets)
    sampled = next_item_loss(logits[:, sample.items], columns, sample)
    full = next_item_loss(logits[:, 1:], targets - 1, full_candidates(trained))
    assert sampled.item() == pytest.approx(full.item(), abs=1e-5)


@pytest.mark.parametrize("rows", [1, 4, 100])
def test_cross_entropy_by_blocks_is_the_whole_one(monkeypatch, rows):
    torch.manual_seed(0)
    monkeypatch.setattr(softmax, "block_rows", lambda n_columns, device: rows)
    states, vectors = torch.randn(9, 6, requires_grad=True), torch.randn(40, 6, requires_grad=True)
    positives, log_weight = torch.randint(30, (9,)), torch.randn(40)
    log_weight[30:] = float("-inf")
    for weight in (None, log_weight):
        whole = functional.cross_entropy(states @ vectors.T + (0.0 if weight is None else weight), positives)
        blocked = softmax.blocked_cross_entropy(states, vectors, positives, weight)
        assert blocked.item() == pytest.approx(whole.item(), abs=1e-6)
        expected = torch.autograd.grad(3 * whole, (states, vectors))
        for found, wanted in zip(torch.autograd.grad(3 * blocked, (states, vectors)), expected, strict=True):
            assert torch.allclose(found, wanted, atol=1e-6)


def test_the_logits_of_a_million_items_keep_their_budget():
    rows = softmax.block_rows(1_000_000, torch.device("cpu"))
    assert rows * 1_000_000 * 4 <= max(softmax.BLOCK_BYTES, softmax.FEWEST_ROWS * 4_000_000)
    assert softmax.block_rows(10_000, torch.device("cpu")) * 10_000 * 4 <= softmax.BLOCK_BYTES


def test_gbce_golden():
    """Three negatives of ten items, by hand; a row's own positive is never its negative."""
    torch.manual_seed(0)
    states, vectors = torch.randn(2, 4, requires_grad=True), torch.randn(5, 4, requires_grad=True)
    negatives, positives = torch.tensor([True, True, False, True, False]), torch.tensor([2, 0])
    power = beta(3, 10, 0.75)
    assert power == pytest.approx(1 / 3 * (0.75 * (1 - 3) + 3))
    assert (beta(3, 10, 0.0), beta(3, 10, 1.0)) == (pytest.approx(1.0), pytest.approx(1 / 3))
    logits = states @ vectors.T
    of_rows = [
        -power * functional.logsigmoid(logits[0, 2]) - sum(functional.logsigmoid(-logits[0, i]) for i in (0, 1, 3)),
        -power * functional.logsigmoid(logits[1, 0]) - sum(functional.logsigmoid(-logits[1, i]) for i in (1, 3)),
    ]
    expected = (of_rows[0] + of_rows[1]) / 2 / 4
    found = blocked_gbce(states, vectors, positives, negatives, power)
    assert found.item() == pytest.approx(expected.item(), abs=1e-6)
    wanted = torch.autograd.grad(expected, (states, vectors))
    for one, other in zip(torch.autograd.grad(found, (states, vectors)), wanted, strict=True):
        assert torch.allclose(one, other, atol=1e-6)


@pytest.mark.parametrize(("gbce", "said"), [(None, "full softmax, logits of"), (0.75, "gBCE against 7 draws a batch")])
def test_the_size_of_a_catalogue_chooses_its_loss_and_the_log_says_which(gbce, said, caplog):
    domains = [SimpleNamespace(name=name, catalogue=catalogue(n)) for name, n in (("small", 9), ("large", 10))]
    with caplog.at_level("INFO"):
        task = NextItem(domains, 9, 7, gbce)  # type: ignore[arg-type]  # all of a domain that is read
    small, large = caplog.messages
    assert small.startswith(f"small: {said}") and small.endswith("of 9 trained items")
    drawn = "softmax over a batch's own items and 7 draws, corrected" if gbce is None else said
    assert large.startswith(f"large: {drawn}") and large.endswith("of 10 trained items")
    targets = np.array([[3, 0]])
    found = [task.candidates(Batch(name, np.zeros(1), targets, targets, targets)) for name in ("small", "large")]
    assert [candidates.complete for candidates in found] == [gbce is None, False]


@pytest.mark.parametrize("gbce", [None, 0.75])
def test_a_million_items_keep_the_byte_budget(gbce):
    """Forward and backward passes, every tensor seen: none is larger than the table of items or a block of logits."""
    n_items, width = 1_000_000, 2
    spec = replace(SPEC, width=width, head_width=width, layers=uniform_layers(1, 1, 4), id_width=width, modalities=(),
                   item_features=(), profile_features=(), domains=(("d", n_items),))  # fmt: skip
    trained = torch.arange(n_items + 1) > 0
    bare = torch.zeros(n_items + 1, 1, dtype=torch.int64)
    nobody = torch.zeros(1, 1, dtype=torch.int64)
    domain = SimpleNamespace(
        name="d", catalogue=Catalogue({}, bare, torch.zeros(n_items + 1, 0), trained),
        profile_features=torch.zeros(1, 0), profile_attributes=nobody,
    )  # fmt: skip
    rows = np.random.default_rng(0).integers(1, n_items + 1, (64, 5))
    targets = np.concatenate([np.zeros((64, 1), np.int64), rows[:, 1:], np.zeros((64, 1), np.int64)], axis=1)
    batch = SimpleNamespace(domain="d", users=np.zeros(64, np.int64), history=rows, targets=targets)
    model, largest = SequentialRecommender(spec), Largest()
    task = NextItem([domain], 5_000, 2_048, gbce)  # type: ignore[list-item]  # all of a domain that is read
    with largest:
        task(model, batch).backward()  # type: ignore[arg-type]
    assert largest.bytes <= max(8 * (n_items + 1) * width, softmax.BLOCK_BYTES)


class Largest(TorchDispatchMode):
    """The size of the largest tensor that any operation gave."""

    bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self.bytes = max(self.bytes, tensor.untyped_storage().nbytes())
        return out


def test_distillation_golden_and_zero_for_the_same_opinion():
    teacher, student = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 0.0]])
    p = 1 / (1 + math.exp(-1))  # softmax(2 / 2, 0 / 2)
    expected = 4 * (p * math.log(2 * p) + (1 - p) * math.log(2 * (1 - p)))
    assert distillation_loss(student, teacher, 2.0).item() == pytest.approx(expected, abs=1e-6)
    assert distillation_loss(teacher, teacher, 2.0).item() == pytest.approx(0.0, abs=1e-7)


def test_distils_any_classifier():
    """A teacher from scikit-learn and a linear student on iris."""
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import train_test_split

    x, y = load_iris(return_X_y=True)
    split = train_test_split((x - x.mean(0)) / x.std(0), y, test_size=0.3, random_state=2, stratify=y)
    (x_train, x_test), (y_train, y_test) = split[:2], split[2:]
    teacher = LogisticRegression(C=10).fit(x_train, y_train)
    opinions = torch.tensor(teacher.decision_function(x_train), dtype=torch.float32)
    inputs, labels = torch.tensor(x_train, dtype=torch.float32), torch.tensor(y_train)
    torch.manual_seed(0)
    student = torch.nn.Linear(4, 3)
    optimizer = torch.optim.AdamW(student.parameters(), lr=0.05)
    for _ in range(300):
        optimizer.zero_grad()
        logits = student(inputs)
        loss = torch.nn.functional.cross_entropy(logits, labels) + distillation_loss(logits, opinions, 2.0)
        loss.backward()
        optimizer.step()
    guessed = student(torch.tensor(x_test, dtype=torch.float32)).argmax(1).numpy()
    assert (guessed == y_test).mean() >= 0.95
    assert (teacher.predict(x_test) == guessed).mean() >= 0.95
