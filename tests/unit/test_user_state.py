"""The user's offset against a ridge regression solved by another way, and where there is none."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.linear_model import Ridge

from pipeline.models.user_state import UserState


def some_state(width: int = 4) -> UserState:
    torch.manual_seed(0)
    state = UserState(width)
    with torch.no_grad():
        for weight in (state.expected.weight, state.expected.bias, state.gain.weight):
            weight.copy_(torch.randn_like(weight))
    return state


@torch.no_grad()
def test_the_offset_is_the_ridge_regression_of_what_was_not_expected():
    state, ridge, rate = some_state(), 2.5, 0.3
    state.log_ridge.fill_(np.log(ridge))
    state.log_rate.fill_(np.log(rate))
    history, states = torch.randn(2, 5, 4), torch.randn(2, 6, 4)
    present = torch.tensor([[True] * 5, [False, False, True, True, True]])
    found = state(states, history * present[:, :, None], present).numpy()
    for row, first in ((0, 0), (1, 2)):
        assert not found[row, : first + 1].any()  # nothing has been taken
        for place in range(first, 5):
            before = [states[row, 0], *states[row, first + 1 : place + 1]]  # the token's, then those of the items
            surprise = state.gain(history[row, first : place + 1] - state.expected(torch.stack(before))).numpy()
            ages = np.arange(len(surprise))[::-1]
            solved = Ridge(alpha=ridge, fit_intercept=False).fit(
                np.ones((len(surprise), 1)), surprise, sample_weight=np.exp(-rate * ages)
            )
            np.testing.assert_allclose(found[row, 1 + place], solved.coef_[:, 0], atol=1e-5)


@torch.no_grad()
def test_more_padding_changes_nothing_and_one_who_took_nothing_has_no_offset():
    state, history, states = some_state(), torch.randn(1, 3, 4), torch.randn(1, 4, 4)
    found = state(states, history, torch.ones(1, 3, dtype=torch.bool))
    padded = torch.cat([torch.zeros(1, 2, 4), history], dim=1)
    longer = torch.cat([states[:, :1], torch.full((1, 2, 4), 9.0), states[:, 1:]], dim=1)
    present = torch.tensor([[False, False, True, True, True]])
    assert torch.allclose(state(longer, padded, present)[:, 3:], found[:, 1:], atol=1e-6)
    assert not state(longer, padded, torch.zeros(1, 5, dtype=torch.bool)).any()
