"""Ranks and metrics against a brute-force oracle in both mask modes; ties, NaN and constants get nothing."""

from __future__ import annotations

import math
from itertools import chain

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data.training_set import Holdout
from pipeline.evaluation import ranking, top_items
from pipeline.evaluation.metrics import per_user
from pipeline.evaluation.ranking import Ranks, best_unseen, rank_holdout, ranks_of


def oracle(scores: list[float], wanted: int, seen: set[int], masked: bool) -> dict[str, float]:
    """All metrics of one user by sorting, written as plainly as possible."""
    candidates = [i for i in range(1, len(scores)) if not (masked and i in seen)]
    if wanted not in candidates:
        rank, of = len(scores) - 1, len(scores) - 1
    else:
        better = [i for i in candidates if i != wanted and not scores[i] < scores[wanted]]
        rank, of = 1 + len(better), len(candidates)
    return {
        "ndcg10": 1 / math.log2(rank + 1) if rank <= 10 else 0.0,
        "hr10": float(rank <= 10),
        "ndcg20": 1 / math.log2(rank + 1) if rank <= 20 else 0.0,
        "hr20": float(rank <= 20),
        "mrr": 1 / rank,
        "auc": (of - rank) / (of - 1) if of > 1 else 0.5,
    }


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_metrics_agree_with_brute_force(data):
    n_items = data.draw(st.integers(1, 40))
    batch = data.draw(st.integers(1, 4))
    # Few distinct values, so that ties are common; NaN too.
    value = st.sampled_from([-1.0, 0.0, 0.5, 0.5000001, 2.0, float("nan"), float("inf")])
    scores = np.array([[data.draw(value) for _ in range(n_items + 1)] for _ in range(batch)])
    wanted = np.array([data.draw(st.integers(1, n_items)) for _ in range(batch)])
    seen = [np.array(data.draw(st.lists(st.integers(1, n_items), max_size=12)), dtype=np.int32) for _ in range(batch)]
    found = per_user(Ranks(*ranks_of(scores, wanted, seen)))
    for row in range(batch):
        for mode in ("masked", "unmasked"):
            expected = oracle(list(scores[row]), int(wanted[row]), set(seen[row].tolist()), mode == "masked")
            for metric, figure in expected.items():
                assert found[mode][metric][row] == pytest.approx(figure, abs=1e-6), (mode, metric)


def test_a_constant_scorer_gets_nothing():
    scores = np.zeros((3, 101))
    found = per_user(Ranks(*ranks_of(scores, np.array([1, 50, 100]), [np.array([2, 3])] * 3)))
    for mode in found.values():
        assert mode["ndcg10"].sum() == mode["hr10"].sum() == mode["hr20"].sum() == 0
        assert mode["auc"].sum() == 0


def test_a_score_that_is_no_number_gets_nothing():
    scores = np.full((1, 31), np.nan)
    masked, unmasked, *_ = ranks_of(scores, np.array([5]), [np.array([], dtype=np.int32)])
    assert masked[0] == unmasked[0] == 30


def test_masking_takes_only_seen_items_out():
    scores = np.array([[0.0, 5.0, 4.0, 3.0, 2.0]])
    masked, unmasked, candidates_masked, candidates = ranks_of(scores, np.array([3]), [np.array([1, 1, 4])])
    assert (masked[0], unmasked[0], candidates_masked[0], candidates[0]) == (2, 3, 2, 4)


def test_a_seen_item_is_never_found_when_masked():
    masked, unmasked, *_ = ranks_of(np.array([[0.0, 9.0, 1.0]]), np.array([1]), [np.array([1])])
    assert (masked[0], unmasked[0]) == (2, 1)


def test_scores_of_another_catalogue_are_refused():
    with pytest.raises(ValueError, match="up to item 7"):
        ranks_of(np.zeros((1, 4)), np.array([7]), [np.array([], dtype=np.int32)])


class Fixed:
    """The same scores whoever asks beside; remembers the lengths of histories in each block."""

    def __init__(self, table):
        self.table, self.blocks = table, []

    def scores(self, requests):
        self.blocks.append([len(history) for history in requests.histories])
        return self.table[requests.users]


def test_blocks_change_neither_ranks_nor_their_order(monkeypatch):
    draws, n, n_items = np.random.default_rng(0), 23, 40
    histories = [draws.integers(1, n_items + 1, length) for length in draws.integers(0, 9, n)]
    offsets = np.concatenate([[0], np.cumsum([len(history) for history in histories])])
    wanted, none, told = draws.integers(1, n_items + 1, n), np.zeros(n, np.int64), np.full(n, "warm")
    users, seen = np.arange(n)[::-1], np.concatenate(histories)
    holdout = Holdout("test", users, wanted, none, offsets, seen, np.zeros(len(seen)), told, told, None)
    scorer = Fixed(draws.normal(size=(n, n_items + 1)).astype(np.float32))
    rows = draws.permutation(n)[:17]
    monkeypatch.setattr(ranking, "CACHE_BYTES", 1)
    monkeypatch.setattr(ranking, "ENOUGH_ROWS", 3)
    found = rank_holdout(scorer, holdout, n_items, rows, top=5)
    expected = ranks_of(scorer.table[users[rows]], wanted[rows], [histories[row] for row in rows])
    for column, right in zip((found.masked, found.unmasked, found.candidates_masked), expected, strict=False):
        assert column.tolist() == right.tolist()
    best = best_unseen(scorer.table[users[rows]], [histories[row] for row in rows], 5)
    assert found.top.tolist() == best.tolist()
    assert {len(block) for block in scorer.blocks} == {3, 2}
    lengths = list(chain.from_iterable(scorer.blocks))
    assert lengths == sorted(lengths)  # histories of like length are read together


@pytest.mark.parametrize(("block_bytes", "longest"), [(8 * 4 * 41, 8), (1, 1)])  # eight rows of scores; less than one
def test_scores_keep_their_byte_budget(block_bytes, longest):
    n, n_items, none = 20, 40, np.zeros(20, np.int64)
    told, offsets = np.full(n, "warm"), np.arange(n + 1)
    holdout = Holdout("test", np.arange(n), none + 3, none, offsets, none + 5, none, told, told, None)
    scorer = Fixed(np.zeros((n, n_items + 1), np.float32))
    rank_holdout(scorer, holdout, n_items, block_bytes=block_bytes)
    assert sum(len(block) for block in scorer.blocks) == n
    assert max(len(block) for block in scorer.blocks) == longest


@pytest.mark.parametrize("long", [1, 8192])  # rows that are long, and short ones
@pytest.mark.parametrize("n_items", [7, 40, 333])
def test_the_best_unseen_items_are_those_of_a_sort(monkeypatch, long, n_items):
    monkeypatch.setattr(top_items, "LONG", long)
    draws = np.random.default_rng(n_items)
    scores = draws.permuted(np.tile(np.arange(n_items + 1.0, dtype=np.float32), (6, 1)), axis=1)
    scores[2, 1:4] = np.nan
    seen = [draws.integers(1, n_items + 1, 5) for _ in range(5)] + [np.arange(1, n_items)]  # the last has one left
    found = best_unseen(scores, seen, 5)
    for row in range(6):
        order = [i for i in np.argsort(-scores[row]) if i > 0 and i not in seen[row] and not np.isnan(scores[row, i])]
        assert found[row].tolist() == (order[:5] + [0] * 5)[:5]


def test_more_than_there_are_is_refused():
    with pytest.raises(ValueError, match="best 4 of 3"):
        top_items.top_items(np.zeros((1, 3)), 4)
