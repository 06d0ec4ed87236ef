"""Places that new items do not take: scores, lists and the contest that calibrates them follow one rule."""

from __future__ import annotations

import numpy as np
import torch

from pipeline.evaluation.kept_places import in_order, lifted
from pipeline.evaluation.ranking import best_unseen, ranks_of
from pipeline.transfer.contest import Contest, Rows

KEPT = 4
RNG = np.random.default_rng(5)
IS_NEW = np.concatenate([[True], RNG.random(40) < 0.4])  # of 40 items, padding first
STATES, VECTORS = torch.from_numpy(RNG.normal(size=(30, 8))), torch.from_numpy(RNG.normal(size=(41, 8)))
SCORES = (STATES @ VECTORS.T).numpy() + 3.0 * IS_NEW  # loud enough to crowd the others out
SEEN = [RNG.choice(np.arange(1, 41), 3, replace=False) for _ in range(30)]


def test_no_new_item_stands_among_the_first_and_nothing_else_changes_its_order():
    before, after = best_unseen(SCORES, SEEN, 37), best_unseen(lifted(SCORES, IS_NEW, SEEN, KEPT), SEEN, 37)
    assert IS_NEW[before[:, :KEPT]].any()
    assert not IS_NEW[after[:, :KEPT]].any()
    for one, other in zip(before, after, strict=True):
        assert one[IS_NEW[one]].tolist() == other[IS_NEW[other]].tolist()
        assert one[~IS_NEW[one]].tolist() == other[~IS_NEW[other]].tolist()
        rest = other[KEPT:]
        assert rest.tolist() == [item for item in one if item in set(rest.tolist())]


def test_a_ranked_list_is_put_in_the_same_order():
    before, after = best_unseen(SCORES, SEEN, 37), best_unseen(lifted(SCORES, IS_NEW, SEEN, KEPT), SEEN, 37)
    assert np.take_along_axis(before, in_order(IS_NEW[before], KEPT), 1).tolist() == after.tolist()


def test_scores_stay_where_nothing_is_kept_or_nothing_is_new():
    assert lifted(SCORES, IS_NEW, SEEN, 0) is SCORES
    assert lifted(SCORES, np.arange(41) == 0, SEEN, KEPT) is SCORES


def test_fewer_trained_items_than_places_all_stand_first():
    few = np.ones(41, dtype=bool)
    few[[2, 9]] = False
    first = best_unseen(lifted(SCORES, few, [np.zeros(0, int)] * 30, KEPT), [np.zeros(0, int)] * 30, 2)
    assert {tuple(sorted(row)) for row in first.tolist()} == {(2, 9)}


def test_the_contest_ranks_as_the_evaluator_does():
    wanted = np.array([next(i for i in RNG.permutation(np.arange(1, 41)) if i not in seen) for seen in SEEN])
    rows = Rows(STATES, wanted, SEEN, ~IS_NEW)
    best = [rows.best(VECTORS, np.flatnonzero(which)[skip:]) for which, skip in ((~IS_NEW, 0), (IS_NEW, 1))]
    found = Contest(*best, rows.own(VECTORS, VECTORS), rows.is_new, KEPT).ranks(np.full(30, 3.0))
    truth = ranks_of(lifted(SCORES, IS_NEW, SEEN, KEPT), wanted, SEEN)[0]
    assert (found <= 10).tolist() == (truth <= 10).tolist()
    assert found[truth <= 10].tolist() == truth[truth <= 10].tolist()
