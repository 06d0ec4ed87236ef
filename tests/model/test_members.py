"""Members of one model: each learns as if it were alone, and what ranks is the mean of their scores."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pipeline.exit_codes import BadConfiguration
from pipeline.models.members import last_norm_of
from pipeline.models.recommender import SequentialRecommender
from pipeline.training.batches import Batch
from pipeline.training.next_item import NextItem
from pipeline.transfer.adapters import adapt, fold
from pipeline.transfer.strategies import PartRates
from tests.model.test_recommender import SPEC, catalogue

TWO = replace(SPEC, width=32, id_width=32, members=2, recency=True)
ONE = replace(SPEC, recency=True)
HISTORY = torch.tensor([[0, 3, 4, 5], [1, 2, 6, 7]])


@pytest.fixture
def model() -> SequentialRecommender:
    torch.manual_seed(0)
    return SequentialRecommender(TWO)


def alone(model: SequentialRecommender, number: int) -> SequentialRecommender:
    """One member as a model of its own."""
    single, mine = SequentialRecommender(ONE), slice(16 * number, 16 * number + 16)
    weights = {}
    for name, shape in ((name, weight.shape) for name, weight in single.state_dict().items()):
        if name.startswith("trunk."):
            weights[name] = model.state_dict()[name.replace("trunk.", f"trunk.members.{number}.")]
        else:  # tables have the width in their columns, projections in their rows
            whole = model.state_dict()[name]
            weights[name] = whole[mine] if whole.shape[1:] == shape[1:] else whole[:, mine]
    single.load_state_dict(weights)
    return single


def states_and_vectors(model: SequentialRecommender) -> tuple[torch.Tensor, torch.Tensor]:
    vectors = model.item_vectors("a", catalogue())
    states = model.states("a", vectors, HISTORY, torch.ones(2, 2), torch.zeros(2, 1, dtype=torch.int64))
    return states[:, -1], vectors


def gradients(model: SequentialRecommender) -> dict[str, torch.Tensor]:
    """Of the loss that training takes, all members in one."""
    domain = SimpleNamespace(
        name="a", catalogue=catalogue(), profile_features=torch.ones(2, 2), profile_attributes=torch.zeros(2, 1).long()
    )
    targets = np.array([[0, 0, 4, 5, 8], [1, 2, 6, 7, 9]])
    batch = Batch("a", np.arange(2), HISTORY.numpy(), targets, np.zeros_like(targets))
    torch.manual_seed(5)  # of the domains that are dropped
    NextItem([domain], 100, 10)(model.train(), batch).backward()  # type: ignore[list-item]  # all of a domain that is read
    return {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}


def test_scores_are_the_mean_of_the_members_scores(model):
    def scores(one: SequentialRecommender) -> torch.Tensor:
        states, vectors = states_and_vectors(one.eval())
        return states @ vectors.T

    mean = (scores(alone(model, 0)) + scores(alone(model, 1))) / 2
    torch.testing.assert_close(scores(model), mean, rtol=1e-5, atol=1e-5)


def test_members_start_apart(model):
    first, second = alone(model, 0), alone(model, 1)
    own, other = first.state_dict(), second.state_dict()
    drawn = [name for name, weight in own.items() if weight.dim() > 1 and "gain" not in name]
    assert drawn and not any(torch.equal(own[name], other[name]) for name in drawn)
    spread = [one.items.content["text"].weight.norm() for one in (first, second)]
    torch.testing.assert_close(*spread)


def test_each_learns_as_if_it_were_alone(model):
    both, names = gradients(model), {name for name, _ in alone(model, 0).named_parameters()}
    for number in (0, 1):
        single, mine = gradients(alone(model, number)), slice(16 * number, 16 * number + 16)
        assert len(single) > 20 and names >= single.keys()
        for name, gradient in single.items():
            if name.startswith("trunk."):
                found = both[name.replace("trunk.", f"trunk.members.{number}.")]
            else:
                found = both[name][mine] if both[name].shape[1:] == gradient.shape[1:] else both[name][:, mine]
            torch.testing.assert_close(2 * found, gradient, rtol=1e-4, atol=1e-6)  # the loss is their mean


def test_fine_tuning_knows_their_parts(model):
    rates = PartRates("discriminative", 2, 0.5)
    names = ["blocks.0.up.weight", "blocks.1.up.weight", "last_norm.weight"]
    assert [rates.part(f"trunk.members.1.{name}") for name in names] == [rates.part(f"trunk.{name}") for name in names]
    before = states_and_vectors(model.eval())[0]
    adapters = adapt(model, 2)
    moving = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert {f"trunk.members.{n}.last_norm.weight" for n in (0, 1)} <= moving
    assert sum(".lora_B." in name for name in moving) == 2 * 2 * 4  # members, layers, matrices
    fold(adapters, model)
    torch.testing.assert_close(states_and_vectors(model.eval())[0], before)


def test_gradients_of_several_tasks_are_compared_at_a_norm(model):
    assert last_norm_of(model.trunk) is model.trunk.members[0].last_norm
    assert last_norm_of(alone(model, 1).trunk).weight.shape == (16,)


def test_fusion_at_the_decision_has_one_trunk(world, tmp_path) -> None:
    from tests.training_data import Chain

    with pytest.raises(BadConfiguration, match=r"pretrain\.members is 2, and pretrain\.fusion=decision"):
        Chain(world).copy_to(tmp_path / "world").run("pretrain", members=2, fusion="decision")
