"""The course of a training: how long it averages over weights."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.training.plan import Plan

PLAN = Plan("t", 0, 5, 0, 1e-3, 0.05, 64, 4)


def test_an_average_in_epochs_is_a_decay_that_knows_the_data():
    assert PLAN.decay(100) == 0.0
    assert replace(PLAN, average=0.9).decay(100) == 0.9
    assert replace(PLAN, average=0.9, average_epochs=2.0).decay(100) == pytest.approx(1 - 1 / 200)
    assert replace(PLAN, average_epochs=0.5).decay(1) == 0.0  # shorter than a step: the weights themselves
