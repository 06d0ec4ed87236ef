"""Options of the trunk: rotary positions see distances alone, gates and a second projection take part."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from pipeline.compression.importance import gated
from pipeline.compression.prune import Removed, closed_gates, without
from pipeline.compression.pruning_target import PARAMETERS, prices
from pipeline.compression.rebuild import rebuilt
from pipeline.models.moments import nothing_known
from pipeline.models.recommender import SequentialRecommender
from pipeline.models.rotary import angles, turned
from pipeline.models.spec import ModelSpec
from pipeline.models.trunk import Trunk
from tests.model.test_recommender import SPEC, catalogue, states

OPTIONS = {
    "rotary": replace(SPEC, positions="rotary"),
    "swiglu": replace(SPEC, feed_forward="swiglu"),
    "gates": replace(SPEC, residual_gates=True),
    "all": replace(SPEC, positions="rotary", feed_forward="swiglu", residual_gates=True),
}


WHOLE = {
    **OPTIONS,
    "recency": replace(SPEC, recency=True),
    "user state": replace(SPEC, recency=True, user_state=True),
    "members": replace(SPEC, width=32, id_width=32, members=2),
    "decision": replace(SPEC, fusion="decision"),
    "likeness": replace(SPEC, similarity=2.0),
    "relative time": replace(SPEC, relative_time=True),
}


@pytest.mark.parametrize("spec", WHOLE.values(), ids=WHOLE)
def test_the_last_state_alone_is_the_last_of_all(spec: ModelSpec):
    torch.manual_seed(0)
    model, history = SequentialRecommender(spec).eval(), torch.tensor([[0, 3, 4, 5], [7, 8, 9, 1], [0, 0, 0, 0]])
    vectors = model.item_vectors("a", catalogue())
    asked = history, torch.randn(3, 2), torch.ones(3, 1, dtype=torch.int64), nothing_known(history)
    every, last = (model.states("a", vectors, *asked, last=last) for last in (False, True))
    assert last.shape == (3, 1, every.shape[2])
    torch.testing.assert_close(last[:, 0], every[:, -1], rtol=1e-5, atol=1e-6)


def test_turned_vectors_know_how_far_apart_they_are():
    torch.manual_seed(0)
    query, key = torch.randn(1, 1, 1, 8), torch.randn(1, 1, 1, 8)

    def product(one: int, other: int) -> float:
        return float((turned(query, angle(one)) * turned(key, angle(other))).sum())

    def angle(place: int) -> torch.Tensor:
        return angles(torch.tensor([[place]]), 8)

    assert product(5, 2) == pytest.approx(product(13, 10), abs=1e-5)
    assert product(5, 2) != pytest.approx(product(5, 3), abs=1e-3)
    assert product(0, 0) == pytest.approx(float((query * key).sum()), abs=1e-6)


@pytest.mark.parametrize("spec", OPTIONS.values(), ids=OPTIONS)
def test_an_option_keeps_order_padding_and_every_weight_in_use(spec: ModelSpec):
    torch.manual_seed(0)
    trunk, token = Trunk(spec).eval(), torch.randn(1, 16)
    items = torch.randn(1, 4, 16)
    present = torch.ones(1, 4, dtype=torch.bool)
    out = trunk(token, items, present)
    padded = trunk(token, torch.nn.functional.pad(items, (0, 0, 2, 0)), torch.nn.functional.pad(present, (2, 0)))
    torch.testing.assert_close(padded[:, -4:], out[:, -4:], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(trunk(token, items.flip(1), present)[:, -1], out[:, -1], atol=1e-4)
    changed = items.clone()
    changed[:, 3] += 1.0
    torch.testing.assert_close(trunk(token, changed, present)[:, :4], out[:, :4])
    out.square().sum().backward()
    unused = [name for name, weight in trunk.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert unused == []


def test_a_second_projection_is_pruned_and_rebuilt_with_the_first():
    torch.manual_seed(0)
    model = SequentialRecommender(OPTIONS["all"]).eval()
    for part in model.trunk.blocks.modules():
        if isinstance(part, torch.nn.Linear):
            torch.nn.init.normal_(part.bias)
    removed = [Removed((1,), (0, 5)), Removed((), (), whole=True)]
    with gated(model, closed_gates(model, removed)):
        masked = states(model, [[3, 1, 4]])
    pruned = without(model, removed)
    assert prices(model.spec, PARAMETERS)[1] * 2 + prices(model.spec, PARAMETERS)[0] == _in_layer(model) - _in_layer(
        pruned
    )
    torch.testing.assert_close(states(pruned, [[3, 1, 4]]), masked, rtol=1e-4, atol=1e-5)
    whole = rebuilt(pruned, removed, model.spec.layers)
    torch.testing.assert_close(states(whole, [[3, 1, 4]]), masked, rtol=1e-4, atol=1e-5)


def _in_layer(model: SequentialRecommender) -> int:
    return sum(weight.numel() for weight in model.trunk.blocks[0].parameters())
