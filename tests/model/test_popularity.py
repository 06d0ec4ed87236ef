"""ID vectors that start at popularity: where they point, when they are left alone, and what that is worth."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline.data.training_set import load_domain
from pipeline.evaluation.ranking import requests_of
from pipeline.models.inherit import adapted
from pipeline.training.domains import open_domain
from pipeline.training.scoring import ModelScorer, Validation
from pipeline.training.weights import load_model, weights_hash
from pipeline.transfer.popularity import popular_start


@pytest.fixture(scope="module")
def target(chain):
    backbone = load_model(chain.folder("models/backbone"))
    data = load_domain(chain.root / "training", "t")
    return backbone, open_domain(data, chain.root / "vectors", backbone.spec, torch.device("cpu"))


def started(target, validate, strengths):
    backbone, domain = target
    model = adapted(backbone, domain.shape, 0.2, 0.2)
    return model, popular_start(model, domain, domain.training, validate, strengths)


def test_scores_rise_by_the_log_of_popularity_for_the_average_user(target):
    _, domain = target
    likes_more = iter((0.0, 1.0))
    model, strength = started(target, lambda _: next(likes_more), (0.5,))
    plain, _ = started(target, lambda _: None, ())
    assert strength == 0.5
    counts = np.bincount(domain.data.items, minlength=domain.data.n_items + 1)[1:]
    wanted = 0.5 * np.log((counts + 0.5) / (counts.mean() + 0.5))
    with torch.no_grad():
        vectors = [one.item_vectors("t", domain.catalogue)[1:] for one in (model, plain)]
    raised = (vectors[0] - vectors[1]).numpy()
    trained = domain.data.in_training[1:]
    assert not raised[~trained].any()  # new items have no ID vector
    direction = raised[trained] / wanted[trained][:, None]
    assert direction == pytest.approx(np.broadcast_to(direction[0], direction.shape), rel=1e-3, abs=1e-5)
    # the average state of histories that end anywhere: a product of one
    holdout = domain.data.holdout("test")
    states = ModelScorer(plain, domain).states(requests_of(holdout, np.arange(len(holdout)))).numpy()
    assert (states @ direction[0]).mean() == pytest.approx(1, abs=0.25)


def test_it_is_only_taken_as_far_as_validation_likes_it(target):
    backbone, domain = target
    plain = weights_hash(adapted(backbone, domain.shape, 0.2, 0.2))
    for validate in (lambda _: None, lambda _: 0.5):
        model, strength = started(target, validate, (0.5, 1.0))
        assert (weights_hash(model), strength) == (plain, 0.0)
    validation = Validation([domain], 100, 7)
    model, strength = started(target, validation, (0.5, 1.0))
    before = validation(adapted(backbone, domain.shape, 0.2, 0.2).eval())
    assert validation(model) > before if strength else validation(model) == before
