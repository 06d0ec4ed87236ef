"""A model may do without the items' statistics, from pretraining to the served graphs."""

from __future__ import annotations

import json

import onnxruntime

from pipeline.training.weights import load_model

SHORT = {"pretrain": {"epochs": 1, "item_statistics": False, "recency": True}, "transfer": {"epochs": 1}}
SHORT |= {"distill": {"epochs": 1}, "prune": {"recovery_epochs": 1}}


def test_a_chain_without_them_is_whole(world, tmp_path) -> None:
    from tests.training_data import Chain

    chain = Chain(world).copy_to(tmp_path / "world")
    for stage, changed in SHORT.items():
        chain.run(stage, **changed)
    model = load_model(chain.folder("models/student"))
    assert model.spec.item_features == ()
    assert model.spec.recency
    served = chain.folder("models/served")
    assert json.loads((served / "model.json").read_text())["spec"]["recency"]
    inputs = onnxruntime.InferenceSession(served / "item_encoder.onnx").get_inputs()
    assert "features" not in {given.name for given in inputs}
