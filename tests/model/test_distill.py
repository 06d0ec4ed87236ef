"""Distillation: what the teacher says is kept once and right, and every term and table trains through the stage."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline.compression import teacher_outputs
from pipeline.compression.distill import Lessons, Taught
from pipeline.compression.served_model import ServedModel
from pipeline.compression.teacher_outputs import TeacherOutputs
from pipeline.exit_codes import BadConfiguration
from pipeline.models.recommender import SequentialRecommender
from pipeline.training.batches import EpochBatches
from pipeline.training.losses import full_candidates
from pipeline.training.next_item import NextItem, logits_of
from pipeline.training.weights import load_model


@pytest.fixture
def said(teacher, opened, tmp_path):
    return TeacherOutputs.of(teacher, opened(teacher), 5, tmp_path / "said")


def test_a_kept_output_is_what_the_teacher_says(teacher, opened, said):
    domain = opened(teacher)
    batch = EpochBatches([domain.training], 0, 0, teacher.spec.max_length, 16)[0]
    with torch.no_grad():
        logits = logits_of(teacher, domain, batch, full_candidates(domain.catalogue.trained))
    places = batch.places[batch.targets > 0]
    best = logits.topk(5, dim=1)
    assert (said.top[places] == 1 + best.indices.numpy()).mean() > 0.99  # equal scores may come in another order
    np.testing.assert_allclose(said.logits[places], best.values.numpy(), rtol=2e-3, atol=2e-3)
    again = torch.from_numpy(said.states[places]).float() @ said.vectors[1:].T
    torch.testing.assert_close(again, logits, rtol=1e-2, atol=1e-2)


def test_likeness_in_content_is_part_of_what_a_teacher_says(teacher, opened, tmp_path):
    domain = opened(teacher)
    alone = np.array(TeacherOutputs.of(teacher, domain, 0, tmp_path).states)
    teacher.spec = replace(teacher.spec, similarity=3.0)
    blended = TeacherOutputs.of(teacher, domain, 0, tmp_path)  # the same weights, and yet other outputs
    width = teacher.spec.width
    assert blended.vectors.shape[1] == teacher.spec.score_width > width
    np.testing.assert_array_equal(blended.states[:, :width], alone)
    assert np.abs(blended.states[:, width:]).any()


def test_long_histories_are_told_in_windows_that_overlap(teacher, opened, tmp_path):
    short = SequentialRecommender(replace(teacher.spec, max_length=4)).eval()
    domain = opened(short)
    said = TeacherOutputs.of(short, domain, 0, tmp_path)
    assert np.abs(said.states).sum(1).all()  # every interaction has one
    users, starts, firsts, stops = teacher_outputs._windows(np.array([0, 3, 14]), 4)
    assert np.concatenate([np.arange(a, b) for a, b in zip(firsts, stops, strict=True)]).tolist() == list(range(14))
    assert (stops - starts <= 5).all()
    assert users.tolist() == [0, 1, 1, 1, 1]


def test_outputs_are_computed_once(teacher, opened, said, tmp_path, monkeypatch):
    monkeypatch.setattr(teacher_outputs, "_compute", lambda *_: pytest.fail("computed again"))
    again = TeacherOutputs.of(teacher, opened(teacher), 5, tmp_path / "said")
    assert np.array_equal(again.top, said.top)


def test_all_items_drawn_is_the_whole_catalogue(student, teacher, opened, said):
    """The first K and a rest that misses nothing: the divergence over everything."""
    domain = opened(student)
    batch = EpochBatches([domain.training], 0, 0, student.spec.max_length, 16)[0]
    task = NextItem([domain], 1000, 10)
    whole = Taught(task, said, domain, Lessons(5.0, 2.0))(student.eval(), batch)
    parts = Taught(NextItem([domain], 0, 1000), said, domain, Lessons(5.0, 2.0, top=5, rest=1000))(student, batch)
    assert parts.item() == pytest.approx(whole.item(), rel=1e-3)
    ordered = Lessons(5.0, 2.0, top=5, rest=1000, ranking=0.5)
    whole, parts = (Taught(t, said, domain, ordered)(student, batch) for t in (task, NextItem([domain], 0, 1000)))
    assert parts.item() == pytest.approx(whole.item(), rel=1e-3)


def test_the_stage_tells_both_control_arms(chain):
    about = json.loads((chain.folder("reports/distillation") / "distill.json").read_text())
    arms = {row["arm"]: row for row in about["retained"]["arms"]}
    assert set(arms) == {"taught", "untaught", "teacher-sized"}
    assert arms["taught"]["steps"] == arms["untaught"]["steps"] >= arms["teacher-sized"]["steps"]
    assert arms["teacher-sized"]["parameters"] == about["retained"]["teacher"]["parameters"]
    model = json.loads((chain.folder("models/student") / "model.json").read_text())
    better = max(arms["taught"]["valid_ndcg10"], arms["untaught"]["valid_ndcg10"])
    assert model["taught"] == (arms["taught"]["valid_ndcg10"] == better)
    assert f"{better:.4f}" in model["why"]
    page = (chain.folder("reports/distillation") / "report.html").read_text()
    assert "<script" not in page
    assert "teacher-sized" in page


@pytest.mark.parametrize(
    ("changed", "kept", "rows"),
    [
        (
            {
                "table": "codes",
                "id_width": 8,
                "width": 8,
                "id_parts": 4,
                "id_codes": 16,
                "id_alone": True,
                "ranking": 0.5,
            },
            "items.ids.codes",
            "codes",
        ),
        ({"table": "int8", "matching": 1.0, "full_softmax_items": 5, "sampled_items": 8}, "items.ids.scale", "int8"),
        ({"table": "content", "top": 0}, None, "float32"),
    ],
)
def test_every_table_is_trained_pruned_and_served(chain, data, opened, tmp_path, changed, kept, rows):
    smaller = chain.copy_to(tmp_path)
    smaller.run("distill", epochs=1, **changed)
    model = load_model(smaller.folder("models/student"))
    assert model.spec.table == changed["table"]
    assert {name for name in model.state_dict() if name.startswith("items.ids")} >= ({kept} if kept else set())
    assert not any(name.startswith("projections") for name in model.state_dict())
    smaller.run("prune", recovery_epochs=1, rows=rows)
    served = load_model(smaller.folder("models/served"))
    assert served.spec.table == changed["table"]
    if rows == "codes":  # nothing but half floats is lost of items that were trained on
        vectors = ServedModel(smaller.folder("models/served")).catalogue.vectors
        expected = served.item_vectors("t", opened(served).catalogue).detach().numpy()
        trained = np.flatnonzero(opened(served).catalogue.trained.numpy())
        np.testing.assert_allclose(vectors[trained], expected[trained], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"ranking": 1.0, "top": 0}, r"distill\.top is 0: there is no order to learn"),
        ({"table": "codes", "id_width": 4, "id_parts": 3}, r"distill\.id_parts is 3, which does not divide"),
    ],
)
def test_lessons_that_do_not_work_out(chain, tmp_path, changed, sentence):
    with pytest.raises(BadConfiguration, match=sentence):
        chain.copy_to(tmp_path).run("distill", **changed)
