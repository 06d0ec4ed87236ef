"""Gates between content vectors: a plain sum at the start, and what is missing has no share."""

from __future__ import annotations

from dataclasses import replace

import torch

from pipeline.models.fusion import GatedSum
from pipeline.models.recommender import SequentialRecommender
from tests.model.test_recommender import SPEC, catalogue


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
