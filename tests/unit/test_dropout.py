"""Dropout keeps the expectation and says nothing outside of training."""

from __future__ import annotations

import pytest
import torch

from pipeline.models.dropout import dropout


@pytest.mark.parametrize("probability", [0.1, 0.2, 0.5])
def test_as_many_as_asked_are_dropped_and_the_mean_stays(probability):
    torch.manual_seed(0)
    dropped = dropout(torch.ones(401, 997), probability, training=True)
    assert (dropped == 0).float().mean().item() == pytest.approx(probability, abs=0.005)
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.005)
    assert len(dropped.unique()) == 2
    by_column = (dropped == 0).float().mean(0)  # every byte of a word is as likely as any other
    assert by_column.min() > probability - 0.1
    assert by_column.max() < probability + 0.1


def test_nothing_is_dropped_outside_of_training_or_at_zero():
    x = torch.randn(5, 3)
    assert dropout(x, 0.5, training=False) is x
    assert dropout(x, 0.0, training=True) is x


def test_the_gradient_passes_where_the_value_did():
    x = torch.ones(64, requires_grad=True)
    out = dropout(x, 0.5, training=True)
    out.sum().backward()
    assert torch.equal(x.grad, out)
