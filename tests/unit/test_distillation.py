"""What a student learns from a teacher, on numbers that can be checked by hand, and on a classifier of another kind."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pipeline.compression.item_codes import codes_for_scores, codes_of, dealt
from pipeline.compression.packed_rows import packed, unpacked
from pipeline.compression.score_directions import score_directions
from pipeline.compression.terms import ranking_loss
from pipeline.evaluation.retention import retention
from pipeline.training.losses import distillation_loss


def test_ranking_golden():
    top, rest = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, -math.inf]])
    first = math.log(math.e + 2) - 1  # among all three
    second = math.log(2)  # among the two that are left
    assert ranking_loss(top, rest).item() == pytest.approx((first + second) / 2, abs=1e-6)


def test_ranking_wants_the_teachers_order():
    top = torch.zeros(1, 3, requires_grad=True)
    ranking_loss(top, torch.zeros(1, 5)).backward()
    assert top.grad is not None
    assert (top.grad.diff() > 0).all()  # the first is lifted most


def test_iris_is_learned_from_a_forest():
    """The seeds' own example: teacher and student on iris, at least 0.96 on held-out rows."""
    from sklearn.datasets import load_iris
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.model_selection import train_test_split

    x, y = load_iris(return_X_y=True)
    split = train_test_split((x - x.mean(0)) / x.std(0), y, test_size=0.3, random_state=1, stratify=y)
    (x_train, x_test), (y_train, y_test) = split[:2], split[2:]
    teacher = RandomForestClassifier(200, min_samples_leaf=3, random_state=0).fit(x_train, y_train)
    opinions = torch.tensor(np.log(teacher.predict_proba(x_train) + 1e-3), dtype=torch.float32)
    inputs, labels = torch.tensor(x_train, dtype=torch.float32), torch.tensor(y_train)
    torch.manual_seed(0)
    student = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3))
    optimizer = torch.optim.AdamW(student.parameters(), lr=0.03)
    for _ in range(200):
        optimizer.zero_grad()
        logits = student(inputs)
        loss = torch.nn.functional.cross_entropy(logits, labels) + distillation_loss(logits, opinions, 2.0)
        (loss + 0.1 * ranking_loss(logits.gather(1, opinions.topk(2).indices), logits)).backward()
        optimizer.step()
    guessed = student(torch.tensor(x_test, dtype=torch.float32)).argmax(1).numpy()
    assert (guessed == y_test).mean() >= 0.96


def test_alike_items_share_codes_and_pieces_are_the_vectors_in_short():
    draws = torch.manual_seed(0)
    centres = torch.randn(4, 6, generator=draws)
    vectors = torch.cat([centre + 0.01 * torch.randn(50, 6, generator=draws) for centre in centres])
    codes, pieces = codes_of(vectors, parts=3, codes=4, width=6)
    assert (codes.dtype, codes.shape, pieces.shape) == (torch.uint8, (200, 3), (3, 4, 2))
    again = pieces[torch.arange(3), codes.long()].flatten(1)
    distances, wanted = (torch.cdist(rows, rows) for rows in (again, vectors))
    assert (distances - wanted).abs().max() < 0.2  # of a few units
    assert len(torch.unique(codes[:50], dim=0)) == 1
    codes, pieces = codes_of(vectors[:1], 3, 4, 12)
    assert not codes.any()
    assert not pieces.any()


@pytest.mark.parametrize(("kind", "width", "columns"), [("int8", 7, 7), ("int4", 7, 4), ("int4", 8, 4)])
def test_rows_of_few_bits_are_near_and_zeros_stay_zero(kind, width, columns):
    vectors = np.random.default_rng(0).normal(size=(30, width)).astype(np.float32)
    vectors[3] = 0.0
    rows, scales = packed(vectors, kind)
    assert (rows.shape, rows.itemsize, scales[3]) == ((30, columns), 1, 0.0)
    again = unpacked(rows, scales, kind, width)
    assert (np.abs(again - vectors) <= scales[:, None] / 2 + 1e-6).all()
    np.testing.assert_allclose(unpacked(*packed(again, kind), kind, width), again, rtol=1e-5)  # nothing more is lost


def test_retention_is_a_ratio_of_means_with_its_interval():
    theirs = np.tile([1.0, 0.5, 0.0], 200)
    found = retention(0.9 * theirs, theirs, 500, 0.95, 1)
    assert found is not None
    assert (found.value, found.low, found.high, found.n) == (*[pytest.approx(0.9)] * 3, 600)
    assert retention(theirs, np.zeros(600), 500, 0.95, 1) is None
    assert retention(theirs[:0], theirs[:0], 500, 0.95, 1) is None


def test_codes_of_a_teacher_are_chosen_by_scores_and_as_long_as_its_vectors():
    draws = torch.manual_seed(0)
    seen = torch.tensor([3.0, 1.0, 1.0, 0.5, 0.1, 0.1])  # how far states reach
    states = torch.randn(500, 6, generator=draws) * seen
    vectors = torch.randn(300, 6, generator=draws) * torch.tensor([1.0, 1.0, 1.0, 1.0, 5.0, 5.0])
    centred = vectors - vectors.mean(0)
    whole = score_directions(vectors, states, 8)
    assert (whole.along.shape, whole.lengths.shape) == ((300, 8), (8,))
    turned = whole.along * whole.lengths
    torch.testing.assert_close(turned @ turned.T, centred @ centred.T, rtol=1e-3, atol=1e-3)
    squares = (states @ centred.T).square().mean(0)
    torch.testing.assert_close(whole.along.square().sum(1), squares, rtol=1e-3, atol=1e-3)  # a length is that of scores
    told = score_directions(vectors, states, 4)
    assert told.along.square().sum() > 0.95 * squares.sum()  # 3.0, 1.0, 1.0 and the longest of the others
    codes, pieces = codes_for_scores(told, parts=2, codes=64)
    order = dealt(told.along.var(0), 2)
    assert sorted(order) == [0, 1, 2, 3]
    widest = set(told.along.var(0).topk(2).indices.tolist())
    assert widest not in ({*order[:2]}, {*order[2:]})  # one to each part
    again = pieces[torch.arange(2), codes.long()].flatten(1) / told.lengths[order]
    assert (again - told.along[:, order]).square().sum() < 0.1 * told.along.square().sum()
