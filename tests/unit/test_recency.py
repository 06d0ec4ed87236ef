"""Decayed means of the history against a loop."""

from __future__ import annotations

import numpy as np
import torch

from pipeline.models.recency import Recency


def test_means_decay_by_age_and_padding_is_nothing():
    torch.manual_seed(0)
    recency = Recency(4)
    history = torch.randn(2, 5, 4)
    present = torch.tensor([[True] * 5, [False, False, True, True, True]])
    with torch.no_grad():
        recency.gain.copy_(torch.randn(2, 4))
        found = recency(history * present[:, :, None], present).numpy()
    rates, gains = recency.log_rate.exp().detach().numpy(), recency.gain.detach().numpy()
    for row, first in ((0, 0), (1, 2)):
        assert (found[row, 0] == 0).all()
        for place in range(first, 5):
            items = history[row, first : place + 1].numpy()
            ages = np.arange(len(items))[::-1]
            weights = [np.exp(-rate * ages) / np.exp(-rate * ages).sum() for rate in rates]
            expected = sum(gain * (weight @ items) for gain, weight in zip(gains, weights, strict=True))
            assert np.allclose(found[row, 1 + place], expected, atol=1e-5)


def test_a_long_history_has_gradients():
    recency = Recency(2)
    recency(torch.randn(1, 400, 2), torch.ones(1, 400, dtype=torch.bool)).sum().backward()
    assert all(torch.isfinite(weight.grad).all() for weight in recency.parameters())
