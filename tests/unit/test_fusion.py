"""Gates between content vectors: a plain sum at the start, and what is missing has no share."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import torch

from pipeline.data.training_set import load_domain
from pipeline.models.fusion import GatedSum
from pipeline.models.recommender import SequentialRecommender
from pipeline.training.domains import modalities, open_domain
from tests.model.test_recommender import SPEC, catalogue
from tests.training_data import ITEM_FEATURES, WIDTH, write_training_set


def test_gates_start_as_the_plain_sum():
    torch.manual_seed(0)
    gated = SequentialRecommender(replace(SPEC, fusion="gates")).eval()
    plain = SequentialRecommender(SPEC).eval()
    plain.load_state_dict({name: w for name, w in gated.state_dict().items() if "gates" not in name})
    known = catalogue()
    known.content["image"][4] = 0.0  # an item without a picture
    torch.testing.assert_close(gated.item_vectors("a", known), plain.item_vectors("a", known))


def test_a_missing_modality_has_no_share_and_an_open_gate_the_larger():
    torch.manual_seed(0)
    fusion = GatedSum(("image", "text"), 3)
    with torch.no_grad():
        fusion.gates["image"].bias.fill_(2.0)
    content = {"image": torch.tensor([[1.0], [1.0], [0.0], [0.0]]), "text": torch.tensor([[1.0], [0.0], [1.0], [0.0]])}
    projected = {name: torch.randn(4, 3) * content[name] for name in content}
    found = fusion(content, projected)
    share = torch.sigmoid(torch.tensor(2.0))
    torch.testing.assert_close(found[0], 2 * (share * projected["image"][0] + (1 - share) * projected["text"][0]))
    torch.testing.assert_close(found[1], projected["image"][1])
    torch.testing.assert_close(found[2], projected["text"][2])
    assert (found[3] == 0).all()


def scores(model, known):
    vectors = model.item_vectors("a", known)
    history = torch.tensor([[3, 4], [5, 9]])
    users = torch.zeros(2, 2), torch.zeros(2, 1, dtype=torch.int64)
    return model.states("a", vectors, history, *users), vectors


def test_fusion_at_the_decision_starts_as_the_plain_sum_and_then_weighs_the_scores_of_parts():
    torch.manual_seed(0)
    weighed = SequentialRecommender(replace(SPEC, fusion="decision", recency=True)).eval()
    plain = SequentialRecommender(replace(SPEC, recency=True)).eval()
    plain.load_state_dict({name: w for name, w in weighed.state_dict().items() if "decision" not in name})
    known = catalogue()
    known.content["image"][4] = 0.0  # an item without a picture
    (states, vectors), (one, items) = scores(weighed, known), scores(plain, known)
    assert vectors.shape == (31, 3 * 16) and (vectors[4, 16:32] == 0).all()  # the parts: own, image, text
    torch.testing.assert_close(states @ vectors.T, one @ items.T)
    with torch.no_grad():
        weighed.trunk.decision.weigh.weight.normal_()
    states, vectors = scores(weighed, known)
    share = 3 * torch.softmax(weighed.trunk.decision.weigh(one), dim=-1)  # (B, S, parts)
    parts = torch.stack([one @ vectors[:, part : part + 16].T for part in (0, 16, 32)], dim=-1)
    torch.testing.assert_close(states @ vectors.T, (share[:, :, None] * parts).sum(-1))


def test_a_domain_may_lack_what_another_brings(tmp_path):
    """Pictures of one shop's items, and none at all of the other's: the same model reads both."""
    root = write_training_set(tmp_path, {"a": ["source"], "b": ["target"]})
    about = {"modalities": {"text": WIDTH, "image": 3}}
    (root / "vectors" / "vectors.json").write_text(json.dumps(about))
    np.save(root / "vectors" / "a" / "image.npy", np.ones((25, 3), np.float32))
    told = {"modalities": modalities(root / "vectors"), "item_features": tuple(ITEM_FEATURES)}
    spec = replace(SPEC, **told, domains=(("a", 24), ("b", 24)), fusion="gates")
    torch.manual_seed(0)
    model = SequentialRecommender(spec).eval()
    domains = [
        open_domain(load_domain(root / "training", n), root / "vectors", spec, torch.device("cpu")) for n in "ab"
    ]
    ours, theirs = (domain.catalogue.content["image"] for domain in domains)
    torch.testing.assert_close(ours[1:].norm(dim=1), torch.ones(24))
    assert not theirs.any()
    before = [model.item_vectors(domain.name, domain.catalogue) for domain in domains]
    with torch.no_grad():
        model.items.content["image"].weight.add_(1.0)
    after = [model.item_vectors(domain.name, domain.catalogue) for domain in domains]
    assert not torch.allclose(after[0], before[0])
    assert torch.equal(after[1], before[1]) and after[1][1:].any()
