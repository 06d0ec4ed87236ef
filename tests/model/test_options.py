"""Every option of the model at once, from pretraining to the served graphs, which agree with torch (`prune` looks)."""

from __future__ import annotations

import json

import onnxruntime
import pytest
import torch

from pipeline.training.weights import load_model

SHORT = {
    "pretrain": {
        "epochs": 1,
        "item_statistics": False,
        "recency": True,
        "similarity": True,
        "positions": "rotary",
        "feed_forward": "swiglu",
        "residual_gates": True,
        "fusion": "gates",
        "loss": "gbce",
        "user_state": True,
        "contrastive": 0.1,
        "attribute_prediction": 0.1,
        "meta": "reptile",
        "meta_epochs": 1,
    },
    "transfer": {"epochs": 1},
    "distill": {"epochs": 1, "similarity": True},
    "prune": {"recovery_epochs": 1},
}


def test_a_chain_with_them_is_whole(world, tmp_path) -> None:
    from tests.training_data import WIDTH, Chain

    chain = Chain(world).copy_to(tmp_path / "world")
    for stage, changed in SHORT.items():
        chain.run(stage, **changed)
    student = load_model(chain.folder("models/student")).spec
    assert student.item_features == ()
    assert student.recency
    served = chain.folder("models/served")
    spec = json.loads((served / "model.json").read_text())["spec"]
    assert (spec["positions"], spec["feed_forward"], spec["residual_gates"]) == ("rotary", "swiglu", True)
    assert spec["layers"][0]["channels"] < student.layers[0].channels
    encoder = onnxruntime.InferenceSession(served / "item_encoder.onnx")
    assert "features" not in {given.name for given in encoder.get_inputs()}
    assert encoder.get_outputs()[0].shape[1] == student.width + (WIDTH if spec["similarity"] else 0)


def test_products_in_bfloat16_change_little(world, tmp_path) -> None:
    from tests.training_data import Chain

    chain, losses = Chain(world).copy_to(tmp_path / "world"), []
    for bf16 in (False, True):
        chain.run("pretrain", epochs=1, bf16=bf16)
        backbone = chain.folder("models/backbone")
        losses.append(json.loads((backbone / "history.jsonl").read_text())["train_loss"])
    assert losses[1] == pytest.approx(losses[0], rel=0.01)
    assert losses[1] != losses[0]
    assert {weight.dtype for weight in load_model(backbone).state_dict().values()} == {torch.float32}
