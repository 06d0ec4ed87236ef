"""The likeness in content: what it adds to a score, that training has none of it, and how its weight is chosen."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest
import torch

from pipeline.compression.export import export_item_encoder, export_onnx
from pipeline.models.recommender import SequentialRecommender, scores_of
from pipeline.models.similarity import DECAY, READ, SOFTNESS, likeness
from pipeline.training.similarity import WHILE_TRAINING, choose_similarity
from tests.model.test_recommender import SPEC, catalogue, states


@pytest.fixture
def model():
    torch.manual_seed(0)
    return SequentialRecommender(SPEC).eval()


def scores(model, history):
    vectors, read = model.item_vectors("a", catalogue()), torch.tensor(history)
    return scores_of(model.spec, states(model, history)[:, -1], vectors, read).detach().numpy()


def test_a_score_gains_the_weighted_soft_maximum_of_cosines(model):
    history = [[0, 0, 7, 3, 12], [0, 0, 0, 0, 0]]
    before = scores(model, history)
    model.spec = replace(model.spec, similarity=2.5)
    assert model.item_vectors("a", catalogue()).shape[1] == model.spec.vector_width == 16 + 5 + 8
    cosines = sum(content[[7, 3, 12]].numpy() @ content.numpy().T for content in catalogue().content.values())
    weights = np.array([DECAY**2, DECAY, 1.0])
    alike = SOFTNESS * np.log(weights / weights.sum() @ np.exp(cosines / SOFTNESS))
    found = scores(model, history)
    np.testing.assert_allclose(found[0], before[0] + 2.5 * alike, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(found[1], before[1], atol=1e-6)  # nothing has been read


def test_only_the_latest_items_count_and_padding_does_not(model):
    content = torch.nn.functional.normalize(torch.randn(31, 6))
    content[0] = 0.0
    long = torch.arange(1, READ + 6)[None]
    latest = likeness(content, long[:, -READ:])
    torch.testing.assert_close(likeness(content, long), latest)
    torch.testing.assert_close(likeness(content, torch.nn.functional.pad(long[:, -READ:], (3, 0))), latest)
    short = long[:, -4:]
    torch.testing.assert_close(likeness(content, torch.nn.functional.pad(short, (5, 0))), likeness(content, short))


def test_training_knows_nothing_of_it(model):
    plain = states(model.train(), [[3, 4]])
    torch.testing.assert_close(states(model, [[3, 4]]), plain)
    model.spec = replace(model.spec, similarity=1.0)
    torch.testing.assert_close(states(model, [[3, 4]]), plain)


@pytest.mark.parametrize("peak", [0.0, 2.0, 6.0, 11.0])
def test_the_weight_with_the_best_validation_is_kept(model, peak):
    model.spec = replace(model.spec, similarity=WHILE_TRAINING)
    figure = choose_similarity("t", model, lambda m: -abs(m.spec.similarity - peak))
    assert model.spec.similarity == peak
    assert figure == 0


def test_where_content_says_nothing_the_likeness_goes(model):
    model.spec = replace(model.spec, similarity=WHILE_TRAINING)
    assert choose_similarity("t", model, lambda m: 0.5) == 0.5
    assert model.spec.similarity == 0.0


def test_without_rows_the_weight_stays(model):
    assert choose_similarity("t", model, lambda m: 1 / 0) is None  # without a similarity nobody is asked
    model.spec = replace(model.spec, similarity=3.0)
    assert choose_similarity("t", model, lambda m: None) is None
    assert model.spec.similarity == 3.0


def test_the_exported_encoder_gives_new_items_all_columns(model, tmp_path):
    model.spec = replace(model.spec, similarity=1.0)
    known = catalogue(cold=tuple(range(1, 31)))
    known.content["image"][1:] = torch.nn.functional.normalize(known.content["image"][1:])
    known.content["text"][1:] = torch.nn.functional.normalize(known.content["text"][1:])
    export_item_encoder(model, tmp_path / "encoder.onnx")
    inputs = {f"{name}_vector": content[1:].numpy() for name, content in known.content.items()}
    inputs |= {"attributes": known.attributes[1:].numpy(), "features": known.features[1:].numpy()}
    (found,) = onnxruntime.InferenceSession(tmp_path / "encoder.onnx").run(None, inputs)
    expected = model.item_vectors("a", known)[1:].detach().numpy()
    assert found.shape[1] == model.spec.vector_width
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("length", [1, 5, 12])
def test_the_exported_graph_scores_as_torch_does(model, tmp_path, length):
    model.spec = replace(model.spec, similarity=2.0)
    domain = SimpleNamespace(name="a", catalogue=catalogue())
    export_onnx(model, domain, 3, tmp_path / "model.onnx")  # type: ignore[arg-type]  # all of a domain that is read
    history = [list(range(3, 3 + length))]
    nobody = np.zeros((1, 1), dtype=np.int64)
    inputs = {"history": np.array(history), "profile": np.zeros((1, 2), np.float32), "profile_attributes": nobody}
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    (found,) = session.run(["all_scores"], inputs | {"seen": nobody})
    np.testing.assert_allclose(found[:, 1:], scores(model, history)[:, 1:], rtol=1e-4, atol=1e-4)
