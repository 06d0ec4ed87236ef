"""Exports in few bits: smaller files, the same first items, and no difference for who asks."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
import torch

from pipeline.compression import export, served_folder
from pipeline.compression.agreement import overlap, same_order
from pipeline.compression.integer_scores import integer_scores
from pipeline.compression.quantised import PackedGraph
from pipeline.compression.served_graph import ServedGraph
from pipeline.compression.served_model import ServedModel
from pipeline.data.training_set import load_domain
from pipeline.exit_codes import BadConfiguration, DataBrokeContract
from pipeline.models.attributes import padded_bags
from pipeline.models.padding import left_padded, right_padded
from pipeline.training.domains import open_domain
from pipeline.training.weights import load_model


@pytest.fixture(scope="module")
def rounded(chain, tmp_path_factory):
    """The chain, pruned and exported with these numbers; made once each."""
    made = {}

    def make(rows: str, linears: str = "float32", scores: str = "float32"):
        if (rows, linears, scores) not in made:
            copy = chain.copy_to(tmp_path_factory.mktemp("rounded"))
            copy.run("prune", rows=rows, linears=linears, scores=scores, recovery_epochs=0)
            made[rows, linears, scores] = copy
        return made[rows, linears, scores]

    return make


def exact(made, opened, top_k: int = 20):
    model = load_model(made.folder("models/served"))
    return ServedGraph(model, opened(model), top_k).eval()


@pytest.mark.parametrize(
    ("rows", "linears", "scores"),
    [
        ("int8", "float32", "float32"),
        ("int8", "int8", "float32"),
        ("float32", "int8_weights", "float32"),
        ("int8", "float32", "int8"),
    ],
)
def test_bytes_keep_the_first_items_of_every_test_user(rounded, data, opened, rows, linears, scores):
    made = rounded(rows, linears, scores)
    folder = made.folder("models/served")
    for k in (5, 10):
        found = overlap(exact(made, opened), folder, data, k)
        assert found is not None
        assert found >= 0.97
    assert made.summaries["prune"].metrics["top_overlap"] >= 0.97
    assert ServedModel(folder).golden_ok()


def test_floats_give_the_first_twenty_of_torch_to_every_test_user(chain, data, opened):
    served, graph = ServedModel(chain.folder("models/served")), exact(chain, opened)
    holdout = data.holdout("test")
    for row in range(len(holdout)):
        history, user = holdout.history(row)[0], holdout.user_index[row]
        profile, attributes = data.profile_features[[user]], [data.user_attributes[user]]
        items, _ = served.recommend([history], profile, attributes, [history], 20)
        bags = torch.from_numpy(padded_bags(attributes, graph.profile.attributes.num_embeddings - 1))
        asked = torch.from_numpy(left_padded([history], served.max_length)), torch.from_numpy(profile), bags
        expected, values, _ = graph.answer(*asked, torch.from_numpy(right_padded([history])))
        left = np.isfinite(values[0].numpy())
        assert items[0][left].tolist() == expected[0].numpy()[left].tolist()


@pytest.mark.parametrize("rows", ["float32", "int8"])
def test_the_answers_of_every_test_user_of_a_market(market, known, tmp_path, rows):
    """The same first twenty of the whole catalogue in floats, nearly the same in bytes."""
    exported = market if rows == "float32" else market.copy_to(tmp_path)
    if rows == "int8":
        exported.run("prune", rows="int8", scores="int8", linears="int8")
    folder, data = exported.folder("models/served"), load_domain(known.root / "training", "metro")
    model = load_model(folder)
    graph = ServedGraph(model, open_domain(data, known.root / "vectors", model.spec, torch.device("cpu")), 20).eval()
    assert data.n_items >= 5 * 20
    assert len(data.holdout("test")) > 100
    if rows == "float32":
        assert same_order(graph, folder, data, 20) == 1.0
    found = overlap(graph, folder, data, 20)
    assert found is not None
    assert found >= 0.97
    assert (found == 1.0) == (rows == "float32")


def test_integer_scores_are_products_of_what_was_rounded():
    generator = np.random.default_rng(3)
    states, rows = (generator.normal(size=(n, 12)).astype(np.float32) for n in (4, 30))
    rows[0], states[1] = 0, 100 * states[2]
    found = integer_scores(torch.from_numpy(states), torch.from_numpy(rows)).numpy()
    for state, line in zip(states, found, strict=True):
        for row, score in zip(rows, line, strict=True):
            fine, coarse = np.abs(state).max() / 63, np.abs(row).max() / 127
            expected = np.rint(state / fine) @ np.rint(row / coarse) * fine * coarse if coarse else 0.0
            assert score == pytest.approx(expected, rel=1e-5, abs=1e-6)
    np.testing.assert_allclose(found[1], 100 * found[2], rtol=1e-5)  # a state has a scale of its own
    assert not found[:, 0].any()


def test_scores_in_integers_are_those_of_torch_and_depend_on_nobody_else(rounded, data, opened):
    folder = rounded("int8", scores="int8").folder("models/served")
    graph, served, model = onnx.load(folder / "model.onnx"), ServedModel(folder), load_model(folder)
    assert [node.op_type for node in graph.graph.node].count("MatMulInteger") == 1
    assert {one.key: one.value for one in graph.metadata_props}["scores"] == "int8"
    histories = [data.holdout("test").history(row)[0] for row in range(6)]
    profile, nothing = data.profile_features[:6], [[]] * 6
    together = served.scores(histories, profile, nothing)
    for row in range(6):
        alone = served.scores([histories[row]], profile[[row]], [[]])
        np.testing.assert_allclose(together[row], alone[0], rtol=1e-5, atol=1e-6)
    in_torch = PackedGraph(model, opened(model), 20, scores_in_integers=True, kind="int8").eval()
    bags = torch.from_numpy(padded_bags(nothing, in_torch.profile.attributes.num_embeddings - 1))
    asked = torch.from_numpy(left_padded(histories, served.max_length)), torch.from_numpy(profile), bags
    expected = in_torch.answer(*asked, torch.zeros(6, 1, dtype=torch.int64))[2].numpy()
    # where two runtimes differ in the last bit of a state, it may round to the next step
    assert np.isclose(together, expected, rtol=1e-4, atol=1e-4)[:, 1:].mean() > 0.9


def test_scores_in_integers_need_rows_that_stay(chain, tmp_path):
    with pytest.raises(BadConfiguration, match=r"prune\.scores is int8 and prune\.rows is float32"):
        chain.copy_to(tmp_path).run("prune", scores="int8", recovery_epochs=0)


def test_the_catalogue_is_smaller_and_the_file_says_what_it_is(rounded):
    catalogue = {}
    for rows, linears in (("float32", "float32"), ("int8", "float32"), ("int4", "float32"), ("int8", "int8")):
        path = rounded(rows, linears).folder("models/served") / "model.onnx"
        graph = onnx.load(path)
        kept = {one.name: onnx.numpy_helper.to_array(one).nbytes for one in graph.graph.initializer}
        catalogue[rows] = kept["vectors" if rows == "float32" else "rows"]
        inside = {one.key: one.value for one in graph.metadata_props}
        about = json.loads((path.parent / "model.json").read_text())
        assert (inside["rows"], inside["linears"], inside["domain"]) == (rows, linears, "t")
        assert inside["weights_sha256"] == about["weights_sha256"]
        integers = any(node.op_type == "MatMulInteger" for node in graph.graph.node)
        assert integers == (linears == "int8")
    assert catalogue["float32"] == 4 * catalogue["int8"] == 8 * catalogue["int4"]


@pytest.mark.parametrize(
    ("rows", "scores", "off"), [("int8", "float32", 1e-4), ("int4", "float32", 1e-4), ("int8", "int8", 0.1)]
)
def test_a_new_item_is_a_new_row_of_a_packed_catalogue_too(rounded, data, rows, scores, off):
    served = ServedModel(rounded(rows, scores=scores).folder("models/served"))
    same = served.with_items(["twin"], served.catalogue.vectors[5:6], [[]])
    profile = data.profile_features[:1]
    scores = same.scores([[1, 2]], profile, [[]])[0]
    assert abs(scores[-1] - scores[5]) < off * np.abs(scores[1:]).max()  # a new row is not rounded
    np.testing.assert_allclose(scores[1:-1], served.scores([[1, 2]], profile, [[]])[0, 1:], rtol=1e-4, atol=1e-5)
    assert same.golden_ok()
    assert {carrier.row for carrier in served.explain([1, 2], profile[0], [], 5)} <= {1, 2}


def test_bytes_that_change_the_answers_are_refused(chain, tmp_path, monkeypatch):
    monkeypatch.setattr(served_folder, "LEAST_OVERLAP", 1.01)
    with pytest.raises(BadConfiguration, match=r"keeps \d+\.\d% of its first 20 items.*set prune\.rows"):
        chain.copy_to(tmp_path).run("prune", rows="int8", recovery_epochs=0)


def test_codes_of_items_that_have_none_are_refused(chain, tmp_path):
    with pytest.raises(BadConfiguration, match=r"not codes alone; set distill\.table to codes"):
        chain.copy_to(tmp_path).run("prune", rows="codes", recovery_epochs=0)


def test_an_operator_that_onnx_does_not_know_is_named():
    class Odd(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.special.i0e(x)

    with pytest.raises(BadConfiguration, match="an operator that ONNX"):
        export._traced(Odd(), (torch.ones(2, 2),), ["x"], ["y"], {})


def test_nobody_to_calibrate_with_is_a_fault_of_the_data(teacher):
    from pipeline.compression.importance import activation_importance, taylor_importance

    for importance in (taylor_importance, activation_importance):
        with pytest.raises(DataBrokeContract, match="calibration set has no users"):
            importance(teacher, [], lambda model, batch: torch.zeros(()))
