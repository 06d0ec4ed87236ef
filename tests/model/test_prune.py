"""Pruning takes units out of the weights: smaller shapes, and exactly the masked model's outputs."""

from __future__ import annotations

import json

import pytest
import torch

from pipeline.compression.gradual import joined, share_after
from pipeline.compression.id_columns import least_columns, without_columns
from pipeline.compression.importance import Gates, activation_importance, gated, open_gates, taylor_importance
from pipeline.compression.prune import Removed, closed_gates, least_important, without
from pipeline.compression.pruning_target import to_target, total
from pipeline.compression.rebuild import rebuilt
from pipeline.exit_codes import BadConfiguration
from pipeline.models.spec import LayerShape
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


def test_a_whole_layer_goes_and_the_dense_model_comes_back_from_the_map(teacher, opened):
    domain = opened(teacher)
    for removed in (REMOVED, [Removed((), (), whole=True), REMOVED[0]]):
        pruned = without(teacher, removed)
        assert len(pruned.spec.layers) == sum(not out.whole for out in removed)
        with gated(teacher, closed_gates(teacher, removed)):
            masked = outputs(teacher, domain)
        torch.testing.assert_close(outputs(pruned, domain), masked, rtol=1e-5, atol=1e-5)
        again = rebuilt(pruned, removed, teacher.spec.layers)
        assert again.spec.layers == teacher.spec.layers
        torch.testing.assert_close(outputs(again, domain), masked, rtol=1e-5, atol=1e-5)


def test_columns_of_the_id_table_go_in_both_places(student, opened):
    domain = opened(student)
    with torch.no_grad():
        student.items.id_rows[:, 2] = 0.0
    columns = least_columns(student, domain.catalogue.trained, 0.75)
    smaller = without_columns(student, columns)
    assert columns == (2,)
    assert smaller.items.id_rows.shape == (len(domain.catalogue.trained), 3)
    torch.testing.assert_close(outputs(smaller, domain), outputs(student, domain))


@pytest.mark.parametrize("of", ["parameters", "operations"])
def test_a_target_is_met_by_what_is_least_worth_its_price(teacher, of):
    importance = [Gates(torch.ones(2), torch.arange(128.0)), Gates(torch.full((2,), 1e6), torch.full((128,), 1e6))]
    have = total(teacher.spec, of, teacher.n_parameters, 24)
    removed = to_target(importance, teacher.spec, of, have, 0.9)
    pruned = without(teacher, removed)
    assert 0.85 <= total(pruned.spec, of, pruned.n_parameters, 24) / have <= 0.9
    assert removed[1] == Removed((), ())
    assert 127 not in removed[0].channels
    with pytest.raises(ValueError, match=r"1% of the \w+ cannot be reached"):
        to_target(importance, teacher.spec, of, have, 0.01)


def test_activations_tell_a_silent_unit_too(teacher, opened):
    domain = opened(teacher)
    with torch.no_grad():
        teacher.trunk.blocks[1].up.weight[9] = 0.0
        teacher.trunk.blocks[1].up.bias[9] = 0.0
    batch = EpochBatches([domain.training], 0, 0, teacher.spec.max_length, 16)[0]
    found = activation_importance(teacher, [batch], NextItem([domain], 1000, 10))
    assert found[1].channels.argmin() == 9
    assert [gates.heads.shape for gates in found] == [(2,), (2,)]
    assert all(gates.layer > 0 for gates in found)


def test_rounds_add_up_to_one_map():
    dense = [LayerShape(4, 6), LayerShape(4, 6)]
    first = [Removed((1,), (0, 5)), Removed((), (), whole=True)]
    assert joined(first, [Removed((1, 2), (0,))], dense) == [Removed((1, 2, 3), (0, 1, 5)), Removed((), (), whole=True)]
    assert [round(share_after(r, 2, 0.5), 4) for r in (1, 2)] == [0.5625, 0.5]


def test_the_stage_prunes_in_rounds_to_a_target(chain, student, tmp_path):
    gently = chain.copy_to(tmp_path)
    changed = {"target": "operations", "keep": 0.7, "rounds": 2, "keep_columns": 0.5, "recover_from": "teacher"}
    gently.run("prune", recovery_epochs=2, importance="activation", **changed)
    served = load_model(gently.folder("models/served"))
    about = json.loads((gently.folder("models/served") / "removed_channels.json").read_text())
    assert served.spec.id_width == student.spec.id_width - len(about["id_columns"]) == 2
    (layer,), (out,) = served.spec.layers, about["layers"]
    assert layer.channels == student.spec.layers[0].channels - len(out["channels"])
    have, had = (total(m.spec, "operations", m.n_parameters, 24) for m in (served, student))
    assert have <= 0.7 * had
    rows = [json.loads(line) for line in (gently.folder("models/served") / "history.jsonl").open()]
    assert [row["epoch"] for row in rows] == [0, 1, 1, 2]
    with pytest.raises(BadConfiguration, match=r"cannot be reached.*raise prune\.keep"):
        gently.run("prune", target="parameters", keep=0.01)
