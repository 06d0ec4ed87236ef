"""The likeness in content: what it adds to a score, that training has none of it, and how its weight is chosen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import torch

from pipeline.compression.export import export_item_encoder
from pipeline.models.recommender import SequentialRecommender
from pipeline.models.similarity import DECAYS
from pipeline.training.similarity import WHILE_TRAINING, choose_similarity
from tests.model.test_recommender import SPEC, catalogue, states


@pytest.fixture
def model():
    torch.manual_seed(0)
    return SequentialRecommender(SPEC).eval()


def test_a_score_gains_the_weighted_cosines_of_decayed_means(model):
    history = [[0, 0, 7, 3, 12], [0, 0, 0, 0, 0]]
    before = states(model, history)[:, -1] @ model.item_vectors("a", catalogue()).T
    model.spec = replace(model.spec, similarity=2.5)
    vectors = model.item_vectors("a", catalogue())
    assert vectors.shape[1] == model.spec.score_width == 16 + 5 + 8
    found = (states(model, history)[:, -1] @ vectors.T).detach().numpy()
    likeness = np.zeros(31)
    for content in catalogue().content.values():
        for decay in DECAYS:
            weights = np.array([decay**2, decay, 1.0])
            likeness += (weights / weights.sum() @ content[[7, 3, 12]].numpy() / len(DECAYS)) @ content.numpy().T
    np.testing.assert_allclose(found[0], before[0].detach() + 2.5 * likeness, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found[1], before[1].detach(), atol=1e-6)  # nothing has been read


def test_training_knows_nothing_of_it(model):
    plain = states(model.train(), [[3, 4]])
    torch.testing.assert_close(states(model, [[3, 4]]), plain)
    model.spec = replace(model.spec, similarity=1.0)
    torch.testing.assert_close(states(model, [[3, 4]]), plain)


@pytest.mark.parametrize("peak", [0.0, 2.0, 6.0, 16.0])
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
    assert found.shape[1] == model.spec.score_width
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
