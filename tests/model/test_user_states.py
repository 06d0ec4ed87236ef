"""A user's own state from fine-tuning to the exported graph, and that it goes where it does not help."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import torch

from pipeline.compression.export import export_onnx
from pipeline.models.padding import left_padded
from pipeline.models.recommender import SequentialRecommender
from pipeline.training.weights import load_model
from pipeline.transfer import user_states
from pipeline.transfer.user_states import FACTORS, chosen_user_states


@pytest.fixture(scope="module")
def adapting(chain) -> SequentialRecommender:
    """The served model of the chain with a loud state of its users' own."""
    served = load_model(chain.folder("models/served"))
    model = SequentialRecommender(replace(served.spec, user_state=True)).eval()
    model.load_state_dict(served.state_dict(), strict=False)
    torch.manual_seed(3)
    assert model.trunk.user is not None
    with torch.no_grad():
        for weight in (model.trunk.user.gain.weight, model.trunk.user.expected.weight):
            weight.normal_(std=0.3)
    return model


def test_the_exported_graph_adapts_as_torch_does(adapting, opened, data, tmp_path):
    domain = opened(adapting)
    graph = export_onnx(adapting, domain, 20, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    holdout = data.holdout("test")
    longest = holdout.history(int(holdout.history_lengths.argmax()))[0]
    for support in (0, 1, 5, len(longest)):
        history = left_padded([longest[len(longest) - support :], longest[:2]], 12)
        asked = (
            torch.from_numpy(history), domain.profile_features[:2], domain.profile_attributes[:2],
            torch.zeros(2, 1, dtype=torch.int64),
        )  # fmt: skip
        expected = graph.answer(*asked)[2].numpy()
        named = zip(("history", "profile", "profile_attributes", "seen"), asked, strict=True)
        (found,) = session.run(["all_scores"], {name: value.numpy() for name, value in named})
        np.testing.assert_allclose(found[:, 1:], expected[:, 1:], atol=1e-4)
        adapted, graph.trunk.user = graph.trunk.user, None
        plain = graph.answer(*asked)[2].numpy()
        graph.trunk.user = adapted
        assert np.allclose(plain[0, 1:], expected[0, 1:], atol=1e-4) == (support == 0)


@pytest.mark.parametrize("helps", [True, False])
def test_it_stays_where_validation_likes_it_and_goes_where_not(adapting, opened, data, monkeypatch, helps):
    before = adapting.trunk.user.gain.weight.clone()

    def found(model, domain, parts):
        offset = model.trunk.user
        loud = 0.0 if offset is None else min(1.0, float((offset.gain.weight.norm() / before.norm()).detach()))
        return {part.name: np.full(len(part.rows), 0.2 + (0.1 if helps else -0.1) * loud) for part in parts}

    monkeypatch.setattr(user_states, "judged", found)
    model, chosen = chosen_user_states(adapting, opened(adapting), 100, 7)
    n = len(data.holdout("validation"))
    if helps:
        assert chosen.sentence.startswith("user states kept at 1: users with 1 interactions 0.2000 → 0.3000, ")
        assert chosen.sentence.endswith(f"({n} validation users)")
        assert torch.equal(model.trunk.user.gain.weight, before)
    else:
        assert chosen.sentence == f"user states left out: no sure gain on {n} validation users"
        assert not model.spec.user_state
        assert model.trunk.user is None
    assert torch.equal(adapting.trunk.user.gain.weight, before)  # what was given stays
    assert chosen.figures["user_state_factor"] in FACTORS


def test_without_user_states_nothing_is_asked(chain, opened):
    model = load_model(chain.folder("models/served"))
    assert chosen_user_states(model, opened(model), 100, 7) == (model, None)


def test_the_arm_that_adapts_is_served_if_it_is_kept(chain, tmp_path):
    """Teacher, student and served model: what each stage says is what its model has."""
    copy = chain.copy_to(tmp_path / "world")
    short = {"transfer": {"arms": ["anil"], "epochs": 2}, "distill": {"epochs": 1}, "prune": {"recovery_epochs": 1}}
    for stage, changed in short.items():
        copy.run(stage, **changed)
    for stage, name in (("transfer", "teacher"), ("prune", "served")):
        spec, found = load_model(copy.folder(f"models/{name}")).spec, copy.summaries[stage].found
        assert ("user states kept at" in found) == spec.user_state, stage
        if not spec.user_state and stage == "transfer":
            assert "user states left out: no sure gain" in found
            break  # a student of such a teacher has none
