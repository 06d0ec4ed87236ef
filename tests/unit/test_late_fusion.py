"""Scores of several models, summed with weights by the length of the history."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from pipeline.augmentation.parts import Part
from pipeline.data.sequences import Array
from pipeline.data.training_set import Holdout
from pipeline.evaluation.ranking import Requests, requests_of
from pipeline.transfer.late_fusion import LEAST, LateFusion, learned_gate

ITEMS, USERS = 30, 2 * LEAST


@dataclass(frozen=True)
class Knows:
    """Scores the wanted item of some users first."""

    wanted: Array
    users: Array

    def scores(self, requests: Requests) -> Array:
        scores = np.zeros((len(requests), ITEMS + 1), dtype=np.float32)
        known = np.isin(requests.users, self.users)
        scores[np.flatnonzero(known), self.wanted[requests.users[known]]] = 1.0
        return scores


def part(lengths: Array, wanted: Array) -> Part:
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    none = np.zeros(USERS)
    users = np.arange(USERS)
    columns = (users, wanted, none, offsets, np.full(offsets[-1], 1 + ITEMS // 2), np.zeros(offsets[-1]))
    return Part("all", Holdout("validation", *columns, none.astype(str), none.astype(str), None), users, False)


def test_each_range_of_histories_gets_the_voice_that_knows_it():
    wanted = 1 + np.arange(USERS) % (ITEMS // 2 - 1)
    lengths = np.where(np.arange(USERS) < USERS // 2, 0, 10)
    few, many = (Knows(wanted, np.flatnonzero(mask)) for mask in (lengths == 0, lengths == 10))
    gate = learned_gate({"base": few, "tuned": many}, [part(lengths, wanted)])
    assert gate.told["0+"] == {"base": 1.0, "tuned": 0.0}
    assert gate.told["8+"] == {"base": 0.0, "tuned": 1.0}
    requests = requests_of(part(lengths, wanted).holdout, np.arange(USERS))
    assert (gate.scores(requests).argmax(1) == wanted).all()
    # nobody to learn from: as for everybody, where each voice is right for half of the users
    assert gate.told["1+"] == gate.told["3+"] == {"base": 0.8, "tuned": 0.2}


def test_weights_are_those_of_the_history_and_sum_to_one():
    wanted = np.ones(USERS, dtype=int)
    both = {"base": Knows(wanted, np.arange(USERS)), "tuned": Knows(wanted + 1, np.arange(USERS))}
    gate = LateFusion(both, np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0], [0.0, 1.0]]))
    lengths = np.repeat([0, 1, 3, 9], USERS // 4)
    scores = gate.scores(requests_of(part(lengths, wanted).holdout, np.arange(USERS)))
    assert scores[:, 1].tolist() == pytest.approx(np.repeat([1.0, 0.5, 0.0, 0.0], USERS // 4))
    assert scores[:, 2].tolist() == pytest.approx(np.repeat([0.0, 0.5, 1.0, 1.0], USERS // 4))
