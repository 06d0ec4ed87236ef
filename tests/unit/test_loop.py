"""The steps of a training: how large they are, which weights are kept, and what ends it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from pipeline.exit_codes import BadConfiguration
from pipeline.models.recommender import SequentialRecommender
from pipeline.training.batches import TrainingDomain
from pipeline.training.loop import fit
from pipeline.training.plan import Plan
from tests.model.test_recommender import SPEC

PLAN = Plan("t", 0, 2, 0, 1e-3, 0.05, batch_users=4, patience=4)
DOMAIN = TrainingDomain("a", np.arange(0, 41, 2), np.arange(40, dtype=np.int32) % 30 + 1)  # five steps an epoch
NAME = "trunk.last_norm.weight"


@pytest.fixture
def model():
    torch.manual_seed(0)
    return SequentialRecommender(SPEC)


def loud(model, batch):
    """A loss with gradients far beyond any limit."""
    return sum(1e3 * weight.sin().sum() for weight in model.parameters())


def test_gradients_are_clipped_rates_rise_and_fall_and_matrices_alone_decay(model, tmp_path):
    norms, rates = [], []

    def look(optimizer, *_):
        groups = optimizer.param_groups
        gradients = [weight.grad for group in groups for weight in group["params"]]
        norms.append(float(torch.stack([gradient.norm() for gradient in gradients]).norm()))
        rates.append({group["lr"] for group in groups})
        for group in groups:
            assert {weight.dim() > 1 for weight in group["params"]} == {group["weight_decay"] == PLAN.weight_decay}

    hook = register_optimizer_step_pre_hook(look)
    try:
        fit(model, [DOMAIN], loud, lambda model: None, PLAN, tmp_path)
    finally:
        hook.remove()
    assert norms == pytest.approx([PLAN.clip] * 10, rel=1e-3)
    assert rates == [{PLAN.rate(step, 10)} for step in range(10)]


def test_the_moving_average_is_what_is_judged_and_kept(model, tmp_path):
    raw, judged, told = [], [], [0.2, 0.1]

    def loss(model, batch):
        raw.append(model.get_parameter(NAME).detach().clone())
        return loud(model, batch)

    def validate(model):
        judged.append(model.get_parameter(NAME).detach().clone())
        return told[len(judged) - 1]

    fit(model, [DOMAIN], loss, validate, replace(PLAN, average=0.5), tmp_path)
    expected = raw[0]
    for step, weight in enumerate(raw[1:6], start=1):  # what the first five steps left
        expected = expected.lerp(weight, 1 - min(0.5, (1 + step) / (10 + step)))
    torch.testing.assert_close(judged[0], expected)
    assert not torch.allclose(judged[0], raw[5], atol=1e-5)
    assert torch.equal(model.get_parameter(NAME), judged[0])


def test_a_gradient_that_is_no_number_ends_it_before_the_weights_are_spoilt(model, tmp_path):
    batches = []

    def loss(model, batch):
        batches.append(batch)
        weight = model.get_parameter(NAME)
        return weight.sum() if len(batches) < 3 else (0 * weight).sqrt().sum()  # 0, and its slope is no number

    with pytest.raises(BadConfiguration, match=r"gradient became nan in epoch 1 at step 3 .*users (.*), …") as ended:
        fit(model, [DOMAIN], loss, lambda model: None, PLAN, tmp_path)
    assert f"domain a, users {', '.join(map(str, batches[2].users[:5]))}, …" in str(ended.value)
    assert len(batches) == 3
    assert all(torch.isfinite(weight).all() for weight in model.parameters())
