"""`embed` with the real language model: the vector of a text depends on the text alone."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from pipeline.data.schema import write_table
from pipeline.exit_codes import BadConfiguration
from pipeline.features import encoders
from pipeline.features.encoders import MiniLM
from pipeline.runs.contract import Job
from pipeline.settings import settings
from pipeline.stages import embed
from tests.valid_data import items

TEXTS = ["cup", "a blue cup", "青いカップ", "чёрный чай", "🙂", "spade " * 30, "garden " * 90] + [
    f"{colour} {thing} no {n}" for colour in ("red", "green") for thing in ("kettle", "lamp") for n in range(25)
]


def encoded(encoder: MiniLM, texts: list[str]) -> np.ndarray:
    vectors = np.zeros((len(texts), encoder.width), dtype=np.float32)
    for places, batch in encoder.encode(texts):
        vectors[places] = batch
    return vectors


def test_a_vector_does_not_depend_on_its_company():
    encoder, rng = MiniLM(), np.random.default_rng(0)
    together = encoded(encoder, TEXTS)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    order = rng.permutation(len(TEXTS))
    np.testing.assert_array_equal(encoded(encoder, [TEXTS[n] for n in order]), together[order])
    np.testing.assert_array_equal(encoded(encoder, TEXTS[3:4]), together[3:4])
    cup, blue, spade = together[0], together[1], together[5]
    assert cup @ blue > cup @ spade


def test_it_is_the_model_sentence_transformers_knows():
    from sentence_transformers import SentenceTransformer

    encoder = MiniLM()
    model = SentenceTransformer(str(encoder.folder), device="cpu", local_files_only=True)
    np.testing.assert_allclose(encoded(encoder, TEXTS[:20]), model.encode(TEXTS[:20]), atol=1e-5)


@pytest.fixture
def training(tmp_path: Path, monkeypatch) -> Path:
    """The part of `data/training` that `embed` reads, and a home of its own."""
    monkeypatch.setenv("WARMSTART_HOME", str(tmp_path / "home"))
    settings.cache_clear()
    image = pl.Series([[float(n), 1.0] for n in range(12)], dtype=pl.List(pl.Float32))
    folder = tmp_path / "training"
    write_table(items(30, "s"), folder / "shop/items.parquet")
    write_table(items(12, "t", image_vector=image), folder / "stall/items.parquet")
    (folder / "dataset.json").write_text(json.dumps({"domains": {"shop": {}, "stall": {}}}))
    yield folder
    monkeypatch.undo()
    settings.cache_clear()


def run(training: Path, out: Path, **params) -> dict[str, bytes]:
    """Run the stage; returns its files."""
    out.mkdir()
    chosen = embed.Params(**params)
    embed.run({"data/training": training}, {"data/item_vectors": out}, chosen, Job(scratch=out))
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def test_the_result_is_the_same_whatever_was_in_the_table(training, tmp_path, caplog):
    caplog.set_level("INFO")
    first = run(training, tmp_path / "a", width=16)
    assert "24 texts, 24 of them new" in caplog.text
    caplog.clear()
    assert run(training, tmp_path / "b", width=16) == first
    assert "24 texts, 0 of them new" in caplog.text
    more = pl.concat([items(30, "s"), items(2, "z").with_columns(text=pl.lit("new ") + pl.col("text"))])
    write_table(more, training / "shop/items.parquet")
    grown = run(training, tmp_path / "c", width=16)
    (settings().home / "stores" / "item_vectors.sqlite").unlink()
    assert run(training, tmp_path / "d", width=16) == grown


def test_the_files_are_what_the_models_read(training, tmp_path):
    out = tmp_path / "out"
    run(training, out, encoder="hashing", width=64)
    about = json.loads((out / "vectors.json").read_text())
    assert about == {"encoder": "hashing 1", "modalities": {"image": 2, "text": 64}}
    shop, stall = np.load(out / "shop/text.npy"), np.load(out / "stall/text.npy")
    assert shop.shape == (31, 64) and stall.shape == (13, 64) and shop.dtype == np.float32
    without = [0] + [n for n in range(1, 31) if n % 5 == 0]
    assert not shop[without].any() and shop[1:5].any(axis=1).all()
    # fewer texts than columns: what they do not span is zero
    assert not shop[:, 33:].any()
    assert np.load(out / "stall/image.npy")[12].tolist() == [11.0, 1.0]
    assert not np.load(out / "shop/image.npy").any()
    assert (out / "whitening.safetensors").exists()


def test_a_catalogue_without_any_text_gives_zeros_and_loads_no_model(training, tmp_path, monkeypatch):
    for name in ("shop", "stall"):
        write_table(items(3).with_columns(text=pl.lit(None, pl.String)), training / name / "items.parquet")
    monkeypatch.setattr(MiniLM, "encode", None)
    out = tmp_path / "out"
    run(training, out, width=8)
    assert np.load(out / "shop/text.npy").tolist() == [[0.0] * 8] * 4


def test_a_missing_model_names_the_way_out(monkeypatch):
    monkeypatch.setattr(encoders.MiniLM, "PACKAGE", "no-such-package")
    with pytest.raises(BadConfiguration, match=r"no-such-package .* embed\.encoder=hashing"):
        encoders.encoder_named("minilm", 1)


def test_no_network_is_used(monkeypatch):
    list(MiniLM().encode(["cup"]))
    assert os.environ["HF_HUB_OFFLINE"] == "1"
