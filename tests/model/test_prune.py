"""Pruning takes units out of the weights: smaller shapes, and exactly the masked model's outputs."""

from __future__ import annotations

import json

import pytest
import torch

from pipeline.compression.importance import Gates, gated, open_gates, taylor_importance
from pipeline.compression.prune import Removed, closed_gates, least_important, without
from pipeline.training.batches import EpochBatches
from pipeline.training.next_item import NextItem
from pipeline.training.weights import load_model

REMOVED = [Removed((1,), (0, 3, 5, 100)), Removed((), tuple(range(64, 128)))]


def outputs(model, domain):
    vectors = model.item_vectors("t", domain.catalogue)
    history = torch.tensor([[0, 0, 3], [4, 5, 6]])
    return model.states("t", vectors, history, domain.profile_features[:2], domain.profile_attributes[:2])


def test_pruned_equals_masked(teacher, opened):
    domain = opened(teacher)
    with gated(teacher, closed_gates(teacher, REMOVED)):
        masked = outputs(teacher, domain)
    pruned = without(teacher, REMOVED)
    torch.testing.assert_close(outputs(pruned, domain), masked, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(outputs(teacher, domain), masked)  # the units that went did something


def test_shapes_are_smaller(teacher):
    pruned = without(teacher, REMOVED)
    first, second = pruned.trunk.blocks
    assert first.query_key_value.weight.shape == (3 * 16, 32)
    assert first.attention_out.weight.shape == (32, 16)
    assert (first.up.weight.shape, first.down.weight.shape) == ((124, 32), (32, 124))
    assert second.up.weight.shape == (64, 32)
    assert pruned.n_parameters < teacher.n_parameters
    assert [(layer.heads, layer.channels) for layer in pruned.spec.layers] == [(1, 124), (2, 64)]


def test_a_useless_unit_has_no_importance_and_goes_first(teacher, opened):
    domain = opened(teacher)
    block = teacher.trunk.blocks[0]
    with torch.no_grad():
        block.down.weight[:, 7] = 0.0
        block.attention_out.weight[:, :16] = 0.0
    batches = EpochBatches([domain.training], 0, 0, teacher.spec.max_length, 16)
    task = NextItem([domain], 1000, 10)
    found = taylor_importance(teacher, [batches[0], batches[1]], task)
    assert found[0].channels[7] == 0
    assert found[0].heads[0] == 0
    assert (found[0].heads[1] > 0).all()
    removed = least_important(found, keep_heads=0.5, keep_channels=0.999)
    assert removed[0].heads == (0,)
    assert least_important(found, 1.0, 127 / 128)[0].channels == (7,)


def test_gates_of_one_change_nothing(teacher, opened):
    domain = opened(teacher)
    bare = outputs(teacher, domain)
    with gated(teacher, open_gates(teacher)):
        assert torch.equal(outputs(teacher, domain), bare)
    assert torch.equal(outputs(teacher, domain), bare)


def test_nothing_left_is_refused():
    with pytest.raises(ValueError, match=r"keeping 0\.2 of 2 units leaves none"):
        least_important([Gates(torch.ones(2), torch.ones(8))], keep_heads=0.2, keep_channels=0.5)


def test_the_served_model_was_pruned_as_its_map_says(chain, student):
    removed = json.loads((chain.folder("models/served") / "removed_channels.json").read_text())["layers"]
    served = load_model(chain.folder("models/served"))
    for before, after, out in zip(student.spec.layers, served.spec.layers, removed, strict=True):
        assert after.heads == before.heads - len(out["heads"]) == before.heads // 2
        assert after.channels == before.channels - len(out["channels"]) == before.channels // 2
