"""The course of a training: its learning rate, and how long it averages over weights."""

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


def test_the_rate_rises_to_what_was_asked_and_falls_to_a_tenth_of_it():
    rates = [replace(PLAN, warm_up=0.1).rate(step, 100) for step in range(100)]
    assert rates[:10] == pytest.approx([1e-4 * (1 + step) for step in range(10)])
    assert rates[10] == pytest.approx(1e-3)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[55] == pytest.approx(5.5e-4)  # half way down
    assert rates[-1] == pytest.approx(1e-4, rel=0.01)
    assert PLAN.rate(0, 1) == 1e-3  # a training of one step
