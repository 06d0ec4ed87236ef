"""The model itself: the future cannot be seen, padding says nothing, a cold item is its content."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from pipeline.models.inherit import adapted
from pipeline.models.item_encoder import Catalogue
from pipeline.models.recommender import SequentialRecommender
from pipeline.models.spec import ModelSpec, uniform_layers

SPEC = ModelSpec(
    width=16,
    head_width=8,
    layers=uniform_layers(2, 2, 32),
    max_length=12,
    id_width=16,
    attribute_buckets=20,
    profile_buckets=10,
    modalities=(("image", 5), ("text", 8)),
    item_features=("popularity",),
    profile_features=("age", "visits"),
    domains=(("a", 30), ("b", 9)),
)


def catalogue(n_items: int = 30, cold: tuple[int, ...] = ()) -> Catalogue:
    torch.manual_seed(1)
    trained = torch.ones(n_items + 1, dtype=torch.bool)
    trained[[0, *cold]] = False
    attributes = torch.randint(0, 21, (n_items + 1, 3))
    attributes[0] = 0
    content = {"image": torch.randn(n_items + 1, 5), "text": torch.randn(n_items + 1, 8)}
    return Catalogue(content, attributes, torch.randn(n_items + 1, 1), trained)


@pytest.fixture(params=[False, True], ids=["trunk", "trunk and recency"])
def model(request):
    torch.manual_seed(0)
    return SequentialRecommender(replace(SPEC, recency=request.param)).eval()


def states(model, history, domain="a", features=None):
    history = torch.tensor(history)
    features = torch.zeros(len(history), 2) if features is None else features
    attributes = torch.zeros(len(history), 1, dtype=torch.int64)
    return model.states(domain, model.item_vectors(domain, catalogue()), history, features, attributes)


def test_the_future_does_not_change_the_past(model):
    one, other = states(model, [[1, 2, 3, 4, 5]]), states(model, [[1, 2, 3, 29, 17]])
    assert torch.equal(one[:, :4], other[:, :4])  # token and three items
    assert not torch.allclose(one[:, 4:], other[:, 4:])


def test_the_past_matters(model):
    assert not torch.allclose(states(model, [[1, 2, 3]])[:, -1], states(model, [[2, 1, 3]])[:, -1])


def test_padding_says_nothing(model):
    bare, padded = states(model, [[7, 8]]), states(model, [[0, 0, 0, 7, 8]])
    torch.testing.assert_close(padded[:, -2:], bare[:, -2:], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(padded[:, 0], bare[:, 0], rtol=1e-5, atol=1e-6)


def test_a_user_without_history_is_the_profile(model):
    features = torch.tensor([[1.0, 0.0], [-1.0, 2.0]])
    empty = states(model, [[0], [0]], features=features)
    assert torch.isfinite(empty).all()
    assert not torch.allclose(empty[0, -1], empty[1, -1])


def test_no_history_column_at_all(model):
    history = torch.zeros(3, 0, dtype=torch.int64)
    vectors = model.item_vectors("a", catalogue())
    out = model.states("a", vectors, history, torch.zeros(3, 2), torch.zeros(3, 1, dtype=torch.int64))
    assert out.shape == (3, 1, 16)


def test_padding_has_no_vector_and_subsets_agree(model):
    every = model.item_vectors("a", catalogue())
    assert (every[0] == 0).all()
    some = torch.tensor([0, 3, 3, 30])
    torch.testing.assert_close(model.item_vectors("a", catalogue(), some), every[some])


def test_a_cold_item_is_its_content_alone(model):
    with torch.no_grad():
        before = model.item_vectors("a", catalogue(cold=(4,)))
        model.items.ids.weight.add_(1.0)
        after = model.item_vectors("a", catalogue(cold=(4,)))
    assert torch.equal(before[4], after[4])
    assert not torch.allclose(before[5], after[5])


def test_domains_have_id_vectors_of_their_own(model):
    first = model.items.first_row
    assert (first["a"], first["b"]) == (0, 31)
    assert len(model.items.ids.weight) == 31 + 10


def test_a_dropped_id_looks_like_a_cold_item(model):
    dropping = SequentialRecommender(replace(model.spec, id_dropout=0.999999))
    dropping.load_state_dict(model.state_dict())
    dropping.train()
    torch.manual_seed(3)
    cold = model.item_vectors("a", catalogue(cold=tuple(range(1, 31))))
    torch.testing.assert_close(dropping.item_vectors("a", catalogue()), cold)


def test_a_low_rank_table_is_projected_up():
    low = SequentialRecommender(replace(SPEC, id_width=4))
    assert low.items.ids.weight.shape == (41, 4)
    assert low.item_vectors("b", catalogue(9)).shape == (10, 16)
    assert low.n_parameters < SequentialRecommender(SPEC).n_parameters


def test_a_new_domain_starts_as_content_and_shares_the_rest(model):
    child = adapted(model, ("new", 30), 0.1, 0.2).eval()
    assert (child.items.ids.weight == 0).all()
    cold = model.item_vectors("a", catalogue(cold=tuple(range(1, 31))))
    torch.testing.assert_close(child.item_vectors("new", catalogue()), cold)
    assert torch.equal(child.trunk.positions.weight, model.trunk.positions.weight)
    assert (child.spec.dropout, child.spec.id_dropout) == (0.1, 0.2)


def test_a_known_domain_keeps_its_id_vectors(model):
    child = adapted(model, ("b", 9), 0.0, 0.0).eval()
    torch.testing.assert_close(child.item_vectors("b", catalogue(9)), model.item_vectors("b", catalogue(9)))
    torch.testing.assert_close(child.profile.domains.weight[1], model.profile.domains.weight[2])
    assert torch.equal(child.items.ids.weight, model.items.ids.weight[31:])


def test_a_spec_survives_json():
    assert ModelSpec.from_json(SPEC.to_json()) == SPEC
