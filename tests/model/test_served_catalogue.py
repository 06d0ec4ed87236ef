"""A served model's catalogue: new items are new rows, filters block rows, and the golden request is answered."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import onnxruntime as ort
import polars as pl
import pytest
import torch

from pipeline.compression.export import export_item_encoder, export_onnx
from pipeline.compression.served_model import ServedModel
from pipeline.data.training_set import load_domain
from pipeline.exit_codes import BadConfiguration
from pipeline.features.whitening import Whitening, write_whitening
from pipeline.training.weights import load_model


@pytest.fixture
def folder(chain):
    return chain.folder("models/served")


@pytest.fixture
def served(folder):
    return ServedModel(folder)


def as_new(served, data, chain, rows):
    """Vectors of catalogue items, encoded as if they had been listed after the export."""
    text = np.load(chain.root / "vectors" / "t" / "text.npy")[rows]
    attributes = [data.item_attributes[row] for row in rows]
    return served.encode_items(text, attributes, data.item_features[rows]), attributes


def test_a_new_item_is_a_new_row_as_if_exported_with_it(chain, data, served, opened, tmp_path):
    """The model exported over a catalogue in which an item has no ID, against the row added to one without it."""
    model = load_model(chain.folder("models/served"))
    rows = [5, 9]
    known = opened(model)
    trained = known.catalogue.trained.clone()
    trained[rows] = False
    domain = replace(known, catalogue=replace(known.catalogue, trained=trained))
    with_them = model.item_vectors("t", domain.catalogue).detach().numpy()
    vectors, attributes = as_new(served, data, chain, rows)
    np.testing.assert_allclose(vectors, with_them[rows], rtol=1e-5, atol=1e-6)

    grown = served.with_items(["new-5", "new-9"], vectors, attributes)
    assert (grown.n_items, served.n_items) == (data.n_items + 2, data.n_items)
    assert grown.item_ids[-2:] == ["new-5", "new-9"]
    history, profile = [[1, 2, 3], []], data.profile_features[:2]
    scores = grown.scores(history, profile, [[], ["city:1"]])
    exported = export_onnx(model, domain, 20, tmp_path / "model.onnx")
    session = ort.InferenceSession(tmp_path / "model.onnx")
    inputs = {
        "history": np.array([[1, 2, 3], [0, 0, 0]]),
        "profile": profile,
        "profile_attributes": served._inputs(history, profile, [[], ["city:1"]])["profile_attributes"],
        "seen": np.zeros((2, 1), dtype=np.int64),
    }
    expected = session.run(["all_scores"], inputs)[0]
    assert exported.vectors.shape == (data.n_items + 1, served.about["spec"]["width"])
    np.testing.assert_allclose(scores[:, -2:], expected[:, rows], rtol=1e-4, atol=1e-5)
    # what was there is scored as before, to the bit
    np.testing.assert_array_equal(scores[:, : data.n_items + 1], served.scores(history, profile, [[], ["city:1"]]))


def test_a_new_item_is_recommended_and_can_be_in_a_history(chain, data, served):
    vectors, attributes = as_new(served, data, chain, [5])
    loud = served.with_items(["new"], 50 * vectors, attributes)
    index = loud.item_index["new"]
    items, _ = loud.recommend([[5]], data.profile_features[:1], [[]], [[5]], k=20)
    assert items[0, 0] == index
    items, _ = loud.recommend([[5, index]], data.profile_features[:1], [[]], [[5, index]], k=20)
    assert index not in items[0]
    np.testing.assert_array_equal(
        served.recommend([[5]], data.profile_features[:1], [[]], [[5]], k=20)[0],
        ServedModel(served.folder).recommend([[5]], data.profile_features[:1], [[]], [[5]], k=20)[0],
    )


def test_an_item_of_the_catalogue_keeps_its_row(chain, data, served):
    vectors, attributes = as_new(served, data, chain, [5, 9])
    grown = served.with_items([data.item_ids[5], "new"], vectors, attributes)
    assert grown.n_items == data.n_items + 1
    np.testing.assert_array_equal(grown.catalogue.vectors[5], served.catalogue.vectors[5])
    np.testing.assert_array_equal(grown.catalogue.vectors[-1], vectors[1])
    again = grown.with_items(["newer", "new"], vectors, attributes)  # rows that were added do not move
    assert again.item_index["new"] == grown.item_index["new"]
    assert again.catalogue.popularity[-1] == 0
    with pytest.raises(ValueError, match="2 ids, 1 vectors"):
        served.with_items(["a", "b"], vectors[:1], attributes)
    with pytest.raises(ValueError, match="vectors are 3 wide"):
        served.with_items(["a"], vectors[:1, :3], attributes[:1])


def test_a_filter_blocks_what_lacks_an_attribute(chain, data, served):
    vectors, _ = as_new(served, data, chain, [5])
    grown = served.with_items(["new"], vectors, [["topic:2", "colour:red"]])
    required = ["topic:2"]
    blocked = grown.catalogue.without(required)
    having = [row for row in range(1, grown.n_items + 1) if "topic:2" in grown.catalogue.attributes[row]]
    assert np.flatnonzero(~blocked).tolist() == having
    items, scores = grown.recommend([[1], [2]], data.profile_features[:2], [[], []], [[], []], 20, blocked[None])
    for row in range(2):
        left = np.isfinite(scores[row])
        assert set(items[row][left].tolist()) == set(having)
        assert (items[row][~left] == 0).all()
    # one filter a user
    everything = np.zeros_like(blocked)
    items, _ = grown.recommend(
        [[1], [2]], data.profile_features[:2], [[], []], [[], []], 10, np.stack([blocked, everything])
    )
    assert set(items[0][items[0] > 0].tolist()) <= set(having)
    assert set(items[1].tolist()) - set(having)
    assert grown.catalogue.without(["topic:2", "colour:red"]).sum() == grown.n_items
    assert grown.catalogue.without(["nobody has this"]).all()
    assert not grown.catalogue.without([]).any()
    assert grown.catalogue.in_common(grown.item_index["new"], having[0]) == ["topic:2"]


def test_the_most_popular(data, served):
    counts = np.bincount(np.asarray(data.items), minlength=data.n_items + 1)
    np.testing.assert_array_equal(served.catalogue.popularity, counts)
    order = served.catalogue.by_popularity
    assert sorted(order.tolist()) == list(range(1, data.n_items + 1))
    assert (np.diff(counts[order]) <= 0).all()


def test_the_golden_request(chain, served, data, folder, tmp_path):
    golden = served.about["golden"]
    assert len(golden["items"]) == 10
    assert not set(golden["items"]) & set(golden["history"])
    assert served.golden_ok()
    vectors, attributes = as_new(served, data, chain, [5])
    assert served.with_items(["loud"], 50 * vectors, attributes).golden_ok()

    other = chain.copy_to(tmp_path).folder("models/served")
    export_onnx_of_another_day(chain, other)
    assert not ServedModel(other).golden_ok()


def export_onnx_of_another_day(chain, folder):
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(folder / "model.onnx")
    (vectors,) = (one for one in graph.graph.initializer if one.name == "vectors")
    moved = numpy_helper.to_array(vectors)[::-1].copy()
    vectors.CopyFrom(numpy_helper.from_array(moved, "vectors"))
    onnx.save(graph, folder / "model.onnx")


def test_what_a_server_has_to_know(chain, served):
    serving = served.serving
    assert serving["encoder"] == "handmade"
    assert serving["domains"] == ["a", "b", "t"]
    assert set(serving) == {
        "dataset", "project", "pseudonyms", "clock", "protocol", "events", "half_life_days", "history_length",
        "domains", "value_scales", "encoder",
    }  # fmt: skip


def test_whitened_as_embed_does(chain, tmp_path):
    folder = chain.copy_to(tmp_path).folder("models/served")
    draws = np.random.default_rng(0)
    whitening = Whitening(draws.normal(size=8).astype(np.float32), draws.normal(size=(8, 8)).astype(np.float32))
    write_whitening(folder, whitening)
    raw = draws.normal(size=(5, 8)).astype(np.float32)
    kept = raw.astype("<f2").astype(np.float32)  # as the vector store keeps them
    raw[3] = 0  # no text: as in `gathered`
    expected = whitening(kept)
    expected[3] = 0
    np.testing.assert_array_equal(ServedModel(folder).whiten(raw), expected)


def test_items_that_lack_something(served, data, chain):
    without_text = served.encode_items(None, [["topic:1"]], np.zeros((1, 2), np.float32))
    zeros = served.encode_items(np.zeros((1, 8), np.float32), [["topic:1"]], np.zeros((1, 2), np.float32))
    np.testing.assert_array_equal(without_text, zeros)
    assert np.isfinite(served.encode_items(None, [[]], np.zeros((1, 2), np.float32))).all()
    assert served.encode_items(None, [], np.zeros((0, 2), np.float32)).shape == (0, zeros.shape[1])
    with pytest.raises(ValueError, match="text has shape"):
        served.encode_items(np.zeros((1, 7)), [[]], np.zeros((1, 2)))
    with pytest.raises(ValueError, match="features has shape"):
        served.encode_items(None, [[]], np.zeros((1, 3)))
    with pytest.raises(ValueError, match=r"not \['image'\]"):
        served.encode_items(None, [[]], np.zeros((1, 2)), {"image": np.zeros((1, 4))})


def test_a_model_of_an_earlier_format_still_ranks(chain, data, served, tmp_path):
    """A champion that was exported before catalogues could grow: no vectors, no encoder, another items.parquet."""
    folder = chain.copy_to(tmp_path).folder("models/served")
    for name in ("vectors.npy", "item_encoder.onnx", "whitening.safetensors"):
        (folder / name).unlink()
    pl.read_parquet(folder / "items.parquet").select("item_id").write_parquet(folder / "items.parquet")
    about = json.loads((folder / "model.json").read_text())
    del about["serving"], about["golden"]
    (folder / "model.json").write_text(json.dumps(about))
    old = ServedModel(folder)
    asked = [[1, 2]], data.profile_features[:1], [[]]
    np.testing.assert_array_equal(old.scores(*asked), served.scores(*asked))
    assert old.item_ids == served.item_ids
    for lacking in ("catalogue", "serving"):
        with pytest.raises(BadConfiguration, match="run prune again"):
            getattr(old, lacking)
    with pytest.raises(BadConfiguration, match="run prune again"):
        old.golden_ok()
    with pytest.raises(BadConfiguration, match="cannot encode new items"):
        old.encode_items(None, [[]], np.zeros((1, 2)))


@pytest.mark.parametrize(("modalities", "features"), [((), ("a",)), ((("text", 8), ("image", 3)), ())])
def test_other_shapes_of_items(modalities, features, tmp_path):
    """No content vectors at all, several of them, no item features."""
    from pipeline.compression.new_items import NewItemEncoder
    from pipeline.models.item_encoder import Catalogue
    from pipeline.models.recommender import SequentialRecommender
    from pipeline.models.spec import ModelSpec, uniform_layers

    spec = ModelSpec(
        width=8, head_width=4, layers=uniform_layers(1, 2, 8), max_length=5, id_width=4, attribute_buckets=16,
        profile_buckets=4, modalities=modalities, item_features=features, profile_features=(), domains=(("t", 4),),
    )  # fmt: skip
    model = SequentialRecommender(spec).eval()
    export_item_encoder(model, tmp_path / "item_encoder.onnx")
    write_whitening(tmp_path, Whitening(np.zeros(8, np.float32), np.eye(8, dtype=np.float32)))
    encode = NewItemEncoder(tmp_path, spec.to_json(), ort.SessionOptions())
    draws = np.random.default_rng(0)
    content = {name: draws.normal(size=(3, width)).astype(np.float32) for name, width in modalities}
    given = draws.normal(size=(3, len(features))).astype(np.float32)
    found = encode(
        content.get("text"), [["x"], [], ["y", "z"]], given, {k: v for k, v in content.items() if k != "text"}
    )
    from pipeline.models.attributes import padded_bags
    from pipeline.models.unit_rows import unit_rows

    catalogue = Catalogue(
        {name: torch.from_numpy(unit_rows(vectors)) for name, vectors in content.items()},
        torch.from_numpy(padded_bags([["x"], [], ["y", "z"]], 16)),
        torch.from_numpy(given),
        torch.zeros(3, dtype=torch.bool),
    )
    # rows from 0 on, of which 0 is padding
    with torch.inference_mode():
        expected = model.item_vectors("t", catalogue)[1:].numpy()
    np.testing.assert_allclose(found[1:], expected, rtol=1e-5, atol=1e-6)


def test_the_training_set_must_say_what_a_server_needs(chain, tmp_path):
    from pipeline.stages.prune import what_a_server_knows

    copy = chain.copy_to(tmp_path)
    path = copy.root / "training" / "dataset.json"
    dataset = json.loads(path.read_text())
    path.write_text(json.dumps({k: v for k, v in dataset.items() if k != "pseudonyms"}))
    with pytest.raises(BadConfiguration, match="does not say pseudonyms"):
        what_a_server_knows(copy.root / "training", copy.root / "vectors")
    assert load_domain(copy.root / "training", "t").n_items


def test_mlflow_serves_the_graph_as_it_is(folder, served, data, tmp_path):
    """`vectors` and `blocked` have defaults: MLflow's own scoring server is asked for no catalogue."""
    import mlflow.pyfunc

    from pipeline.registry.registration import as_mlflow_model

    model = mlflow.pyfunc.load_model(str(as_mlflow_model(folder, tmp_path / "model")))
    asked = {
        "history": np.array([[1, 2, 3]]),
        "profile": data.profile_features[:1],
        "profile_attributes": np.zeros((1, 1), dtype=np.int64),
        "seen": np.array([[1, 2, 3]]),
    }
    items, _ = served.recommend([[1, 2, 3]], data.profile_features[:1], [[]], [[1, 2, 3]], 5)
    assert model.predict(asked)["items"][:, :5].tolist() == items.tolist()
