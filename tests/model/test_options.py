"""Every option of the model at once, from pretraining to the served graphs, which agree with torch (`prune` looks)."""

from __future__ import annotations

import json
from dataclasses import replace

import onnxruntime
import pytest
import torch

from pipeline.exit_codes import BadConfiguration
from pipeline.models.recommender import SequentialRecommender
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
        "members": 2,
        "attribute_gain": 3.0,
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
    assert load_model(chain.folder("models/teacher")).spec.members == 2
    assert (student.members, student.attribute_gain) == (1, 3.0)
    assert student.recency
    served = chain.folder("models/served")
    spec = json.loads((served / "model.json").read_text())["spec"]
    assert (spec["positions"], spec["feed_forward"], spec["residual_gates"]) == ("rotary", "swiglu", True)
    assert spec["layers"][0]["channels"] < student.layers[0].channels
    encoder = onnxruntime.InferenceSession(served / "item_encoder.onnx")
    assert "features" not in {given.name for given in encoder.get_inputs()}
    assert encoder.get_outputs()[0].shape[1] == student.width + (WIDTH if spec["similarity"] else 0)


def test_times_events_and_fusion_at_the_decision_teach_a_student_that_reads_items_alone(world, tmp_path) -> None:
    from tests.training_data import WIDTH, Chain

    chain = Chain(world).copy_to(tmp_path / "world")
    told = {"relative_time": True, "events": True, "fusion": "decision"}
    with pytest.raises(BadConfiguration, match="without times and events"):
        chain.run("pretrain", meta="reptile", **told)
    # on a CPU nothing is compiled
    chain.run("pretrain", epochs=1, similarity=True, compile=True, attribute_prediction=0.1, **told)
    chain.run("transfer", epochs=1)
    chain.run("distill", epochs=1, similarity=True)
    chain.run("prune", recovery_epochs=1)
    teacher, student = (load_model(chain.folder(f"models/{name}")).spec for name in ("teacher", "student"))
    assert teacher.relative_time and teacher.events == ("view",) and teacher.fusion == student.fusion == "decision"
    assert not student.reads_moments
    encoder = onnxruntime.InferenceSession(chain.folder("models/served") / "item_encoder.onnx")
    likeness = WIDTH if student.similarity else 0
    assert encoder.get_outputs()[0].shape[1] == student.score_width == 2 * student.width + likeness


def test_a_model_that_reads_times_is_not_served() -> None:
    from pipeline.compression.export import export_onnx
    from tests.model.test_recommender import SPEC

    with pytest.raises(BadConfiguration, match="reads times or events"):
        export_onnx(SequentialRecommender(replace(SPEC, relative_time=True)), None, 5, None)


def test_without_a_clock_there_is_no_relative_time(world, tmp_path, caplog) -> None:
    from tests.training_data import Chain

    chain = Chain(world).copy_to(tmp_path / "world")
    path = chain.root / "training" / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"clock": "order"}))
    with caplog.at_level("INFO"):
        chain.run("pretrain", epochs=1, relative_time=True)
    assert "relative_time is left out" in caplog.text
    assert not load_model(chain.folder("models/backbone")).spec.reads_moments


def test_what_is_compiled_gives_the_same_and_leaves_no_trace() -> None:
    from pipeline.training.compiled import compiled
    from tests.model.test_recommender import SPEC

    torch.manual_seed(0)
    trunk, reads = SequentialRecommender(SPEC).eval().trunk, (torch.randn(2, 16), torch.randn(2, 3, 16))
    present, names = torch.tensor([[False, True, True], [True, True, True]]), list(trunk.state_dict())
    plain = trunk(*reads, present)
    calls = []

    def counting(graph, _):
        calls.append(graph)
        return graph.forward

    with compiled(trunk, wanted=True, backend=counting):
        torch.testing.assert_close(trunk(*reads, present), plain)
        assert calls and list(trunk.state_dict()) == names
    assert "forward" not in vars(trunk)
    with compiled(trunk, wanted=True):  # on a CPU
        assert "forward" not in vars(trunk)


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
