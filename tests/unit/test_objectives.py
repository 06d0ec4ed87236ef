"""Objectives beside the next item: what they reward, and that a weight of nothing is nothing."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pipeline.models.recommender import SequentialRecommender
from pipeline.training.attribute_prediction import AttributePrediction
from pipeline.training.batches import Batch
from pipeline.training.beside import Beside, with_objectives
from pipeline.training.contrastive import Contrastive
from pipeline.training.next_item import NextItem
from tests.model.test_recommender import SPEC, catalogue


@pytest.fixture
def domains():
    users = torch.zeros(4, 2), torch.zeros(4, 1, dtype=torch.int64)
    return [
        SimpleNamespace(name=name, catalogue=catalogue(n_items), profile_features=users[0], profile_attributes=users[1])
        for name, n_items in SPEC.domains
    ]


@pytest.fixture
def model():
    torch.manual_seed(0)
    return SequentialRecommender(SPEC).eval()


@pytest.fixture
def batch():
    history = np.array([[1, 2, 3], [0, 4, 5]])
    targets = np.array([[1, 2, 3, 7], [4, 0, 5, 8]])
    return Batch("a", np.array([0, 1]), history, targets, np.zeros_like(targets))


def test_contrast_knows_the_next_item_by_content_and_not_by_its_id(model, batch, domains):
    contrast, wanted = Contrastive(domains), torch.from_numpy(batch.targets[batch.targets > 0])
    without_ids = model.items("a", contrast._without_ids["a"], wanted)
    torch.manual_seed(1)
    right = contrast(model, batch, without_ids)
    torch.manual_seed(1)
    wrong = contrast(model, batch, without_ids.roll(1, 0))
    assert right < wrong
    with torch.no_grad():
        model.items.id_rows.normal_()
    torch.manual_seed(1)
    assert torch.equal(contrast(model, batch, without_ids), right)
    right.backward()  # negatives of the other domain are encoded too
    assert model.items.content["text"].weight.grad.abs().sum() > 0


def test_attributes_are_told_by_a_softmax_over_those_of_the_domain(model, batch, domains):
    task = AttributePrediction(domains)
    known = torch.unique(domains[0].catalogue.attributes)[1:]
    nothing = torch.zeros(7, SPEC.width)
    assert task(model, batch, nothing).item() == pytest.approx(math.log(len(known)), abs=1e-5)
    table, bags = model.items.attributes.weight, domains[0].catalogue.attributes
    wanted = torch.from_numpy(batch.targets[batch.targets > 0])
    good = torch.stack([table[bags[item][bags[item] > 0]].mean(0) for item in wanted])
    assert task(model, batch, 300 * good) < math.log(len(known))
    domains[0].catalogue.attributes.zero_()
    assert AttributePrediction(domains)(model, batch, nothing).item() == 0.0


def test_weights_add_up_and_none_is_the_task_alone(model, batch, domains):
    task = NextItem(domains, 100, 10)
    assert with_objectives(task, domains, 0.0, 0.0) is task
    alone = task(model, batch)
    both = with_objectives(task, domains, 0.0, 0.5)
    assert isinstance(both, Beside)
    held = Beside(task, domains, [(0.5, lambda model, batch, states: states.new_tensor(3.0))])
    assert held(model, batch).item() == pytest.approx(alone.item() + 1.5, abs=1e-5)
    assert both(model, batch) > alone
