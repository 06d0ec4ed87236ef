"""A generation that learns from an earlier one: the loss against autograd, the opinions against a loop."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline.data.training_set import load_domain
from pipeline.models.recommender import SequentialRecommender
from pipeline.models.spec import ModelSpec, uniform_layers
from pipeline.training import opinions, softmax
from pipeline.training.born_again import taught_cross_entropy
from pipeline.training.domains import open_domain
from pipeline.training.losses import full_candidates
from tests.training_data import ITEM_FEATURES, PROFILE_FEATURES, WIDTH, write_training_set


@pytest.mark.parametrize("rows", [2, 100])
def test_the_loss_and_its_gradient_are_those_of_the_formula(monkeypatch, rows):
    monkeypatch.setattr(softmax, "block_rows", lambda n_columns, device: rows)
    torch.manual_seed(0)
    trained = torch.ones(21, dtype=torch.bool)
    trained[[0, 20]] = False
    candidates = full_candidates(trained)
    states, vectors = torch.randn(7, 5, requires_grad=True), torch.randn(20, 5, requires_grad=True)
    positives = torch.randint(19, (7,))
    items = torch.stack([torch.randperm(19)[:4] for _ in range(7)])
    shares = torch.rand(7, 4) / 5
    found = taught_cross_entropy(states, vectors, positives, candidates, items, shares, 0.7)
    of_blocks = torch.autograd.grad(found * 3, (states, vectors))
    chance = torch.log_softmax(states @ vectors.T + candidates.log_weight, dim=1)
    others = torch.log(1 - chance.gather(1, items).exp().sum(1))
    told = -(shares * chance.gather(1, items)).sum(1) - (1 - shares.sum(1)) * others
    expected = (0.3 * -chance.gather(1, positives[:, None])[:, 0] + 0.7 * told).mean()
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    for one, other in zip(of_blocks, torch.autograd.grad(expected * 3, (states, vectors)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("similarity", [0.0, 4.0])
def test_opinions_are_what_a_loop_finds_whatever_the_blocks(tmp_path, monkeypatch, similarity):
    root = write_training_set(tmp_path, {"t": ["source", "target"]}, users=12)
    monkeypatch.setattr(opinions, "BLOCK_BYTES", 4 * 25 * 7)  # seven items at a time
    monkeypatch.setattr(opinions, "KEPT", 5)
    data = load_domain(root / "training", "t")
    spec = ModelSpec(
        width=8, head_width=4, layers=uniform_layers(1, 2, 16), max_length=12, id_width=8, attribute_buckets=20,
        profile_buckets=10, modalities=(("text", WIDTH),), item_features=tuple(ITEM_FEATURES),
        profile_features=tuple(PROFILE_FEATURES), domains=(("t", data.n_items),), similarity=similarity,
    )  # fmt: skip
    torch.manual_seed(0)
    model = SequentialRecommender(spec).eval()
    domain = open_domain(data, root / "vectors", spec, torch.device("cpu"))
    opinions.opinions_of(model, domain, tmp_path / "scratch")
    monkeypatch.delattr(opinions, "_computed")
    found = opinions.opinions_of(model, domain, tmp_path / "scratch")  # an earlier attempt has left it whole
    model.spec = replace(spec, similarity=0.0)
    trained, content = np.flatnonzero(data.in_training), domain.catalogue.content["text"].numpy()
    for user in np.flatnonzero(data.sequences.lengths):
        start, items = int(data.offsets[user]), data.sequences.of_user(int(user))[0]
        for place in range(len(items)):
            history, who = torch.tensor(items[:place][None].astype(np.int64)), torch.tensor([int(user)])
            vectors = model.item_vectors("t", domain.catalogue)
            about = domain.profile_features[who], domain.profile_attributes[who]
            logits = (model.states("t", vectors, history, *about)[0, -1] @ vectors.T).detach().numpy()
            if similarity and place:
                decay = opinions.DECAY ** np.arange(place - 1, -1, -1)
                alike = np.exp(content[items[:place]] @ content.T / opinions.SOFTNESS)
                logits = logits + opinions.WEIGHT * opinions.SOFTNESS * np.log(decay / decay.sum() @ alike)
            chance = np.exp(logits[trained]) / np.exp(logits[trained]).sum()
            best = trained[np.argsort(-chance)][:5]
            row = start + place
            assert set(found.items[row]) == set(best)
            assert found.shares[row].sum() == pytest.approx(np.sort(chance)[-5:].sum(), rel=2e-3)
            assert math.isclose(found.shares[row].max(), chance.max(), rel_tol=2e-3)
