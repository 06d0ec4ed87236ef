"""The table of vectors, the whitening and the rows of items: what is kept must never change what comes out."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from pipeline.exit_codes import DataBrokeContract, PassingFault
from pipeline.features.encoders import Hashing
from pipeline.features.item_vectors import brought, brought_widths, distinct_texts, gathered, text_rows
from pipeline.features.vector_store import VectorStore
from pipeline.features.whitening import fit_whitening

TEXTS = [f"text number {n} 数字 {n}" for n in range(40)]


class Counting(Hashing):
    """An encoder that remembers what it was asked to encode."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def encode(self, texts):
        self.asked += texts
        yield from super().encode(texts)


def table(path: Path) -> list[tuple]:
    with sqlite3.connect(path) as connection:
        return connection.execute("select key, crc, vector from vectors").fetchall()


def test_only_new_texts_are_encoded_and_nothing_changes(tmp_path):
    store, encoder = VectorStore(tmp_path / "vectors.sqlite"), Counting()
    first, encoded = store.vectors_of(TEXTS[:30], encoder)
    assert encoded == 30
    encoder.asked.clear()
    second, encoded = store.vectors_of(TEXTS[::-1], encoder)
    assert encoded == 10 and sorted(encoder.asked) == sorted(TEXTS[30:])
    alone, _ = VectorStore(tmp_path / "empty.sqlite").vectors_of(TEXTS, Counting())
    np.testing.assert_array_equal(second[::-1], alone)
    np.testing.assert_array_equal(first, alone[:30])


def test_another_encoder_has_vectors_of_its_own(tmp_path):
    store, other = VectorStore(tmp_path / "vectors.sqlite"), Counting()
    store.vectors_of(TEXTS, Counting())
    other.identity = "hashing 2"
    assert store.vectors_of(TEXTS, other)[1] == len(TEXTS)


@pytest.mark.parametrize("broken", [b"not a database at all" * 300, b"", b"SQLite format 3\0" + b"\7" * 5000])
def test_a_broken_table_is_built_anew(tmp_path, broken, caplog):
    path = tmp_path / "vectors.sqlite"
    path.write_bytes(broken)
    whole, encoded = VectorStore(path).vectors_of(TEXTS, Counting())
    assert encoded == len(TEXTS)
    assert not broken or "building it anew" in caplog.text
    again, encoded = VectorStore(path).vectors_of(TEXTS, Counting())
    assert encoded == 0
    np.testing.assert_array_equal(whole, again)


def test_a_row_with_a_wrong_checksum_is_encoded_again(tmp_path, caplog):
    path = tmp_path / "vectors.sqlite"
    whole, _ = VectorStore(path).vectors_of(TEXTS, Counting())
    with sqlite3.connect(path) as connection:
        connection.execute("update vectors set vector = zeroblob(length(vector)) where key = ?", table(path)[3][:1])
    again, encoded = VectorStore(path).vectors_of(TEXTS, Counting())
    assert encoded == 1 and "wrong checksum" in caplog.text
    np.testing.assert_array_equal(whole, again)
    assert VectorStore(path).vectors_of(TEXTS, Counting())[1] == 0


def test_two_processes_fill_one_table(tmp_path):
    script = (
        "import sys; from pathlib import Path; from pipeline.features.encoders import Hashing;"
        "from pipeline.features.vector_store import VectorStore;"
        "texts = [f'{n} {n * 7}' for n in range(int(sys.argv[2]), int(sys.argv[2]) + 3000)];"
        "VectorStore(Path(sys.argv[1])).vectors_of(texts, Hashing())"
    )
    path = tmp_path / "vectors.sqlite"
    running = [subprocess.Popen([sys.executable, "-c", script, str(path), str(start)]) for start in (0, 1500)]
    assert [process.wait(timeout=60) for process in running] == [0, 0]
    assert len(table(path)) == 4500


def test_a_locked_table_is_a_passing_fault(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.features.vector_store.PATIENCE_S", 0.1)
    path = tmp_path / "vectors.sqlite"
    VectorStore(path).vectors_of(TEXTS[:1], Counting())
    with sqlite3.connect(path) as holder:
        holder.execute("begin exclusive")
        with pytest.raises(PassingFault, match=r"vectors\.sqlite cannot be used: database is locked"):
            VectorStore(path).vectors_of(TEXTS, Counting())


def test_hashing_tells_texts_apart_in_any_script():
    texts = ["", "blau", "青いカップ", "赤いカップ", "🙂", "чёрный чай", "a" * 5000]
    encoder = Hashing()
    vectors = np.concatenate([batch for _, batch in encoder.encode(texts)])
    assert vectors.shape == (len(texts), encoder.width) and not vectors[0].any()
    assert len({row.tobytes() for row in vectors}) == len(texts)
    assert vectors[2] @ vectors[3] > vectors[2] @ vectors[5]


def test_whitened_vectors_are_uncorrelated_and_ordered_alike_whatever_the_signs():
    rng = np.random.default_rng(0)
    crowd = (rng.normal(size=(5000, 24)) @ rng.normal(size=(24, 24)) + 7).astype(np.float32)
    white = fit_whitening(crowd, 8)(crowd)
    covariance = np.cov(white.T)
    assert white.shape == (5000, 8) and white.dtype == np.float32
    assert np.abs(covariance - np.diag(np.diag(covariance))).max() < 1e-2
    assert (np.diag(covariance) > 0.8).all() and (np.diag(covariance) < 1.01).all()
    shuffled = fit_whitening(crowd[rng.permutation(5000)], 8)(crowd)
    np.testing.assert_allclose(white, shuffled, atol=1e-2)


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_few_vectors_span_few_directions_and_the_rest_is_zero(count):
    few = np.random.default_rng(1).normal(size=(count, 24)).astype(np.float32)
    whitening = fit_whitening(few, 16)
    white = whitening(few)
    assert white.shape == (count, 16) and np.isfinite(white).all()
    spanned = max(count - 1, 0)
    assert not whitening.components[:, spanned:].any()
    assert (np.abs(whitening.components[:, :spanned]).sum(axis=0) > 0).all()


def test_equal_vectors_whiten_to_nothing_and_not_to_noise():
    equal = np.ones((50, 24), dtype=np.float32)
    assert not fit_whitening(equal, 8)(equal).any()


def frame(texts: list[str | None], **columns) -> pl.DataFrame:
    return pl.DataFrame({"text": texts, **columns}, schema_overrides={"text": pl.String})


def test_items_without_text_and_padding_are_zero():
    items = {"shop": frame(["b", None, "a", "  "]), "stall": frame(["b", ""]), "empty": frame([])}
    texts = distinct_texts(items)
    assert texts == ["a", "b"]
    vectors = np.array([[1.0], [2.0]], dtype=np.float32)
    assert gathered(vectors, text_rows(items["shop"], texts)).ravel().tolist() == [0, 2, 0, 1, 0]
    assert gathered(vectors, text_rows(items["empty"], texts)).shape == (1, 1)


def test_vectors_the_user_brings_are_placed_by_item():
    image = pl.Series([[1.0, 2.0], None, [3.0, 4.0]], dtype=pl.List(pl.Float32))
    items = {"shop": frame(["a", "b", "c"], image_vector=image), "stall": frame(["a"])}
    assert brought_widths(items) == {"image": 2}
    assert brought(items["shop"], "image", 2).tolist() == [[0, 0], [1, 2], [0, 0], [3, 4]]
    assert brought(items["stall"], "image", 2).tolist() == [[0, 0], [0, 0]]


def test_one_modality_needs_one_width_and_a_name_of_its_own():
    two = pl.Series([[1.0, 2.0]], dtype=pl.List(pl.Float32))
    three = pl.Series([[1.0, 2.0, 3.0]], dtype=pl.List(pl.Float32))
    with pytest.raises(DataBrokeContract, match="stall/items: image_vector is 3 wide and 2 wide in shop"):
        brought_widths({"shop": frame(["a"], image_vector=two), "stall": frame(["a"], image_vector=three)})
    with pytest.raises(DataBrokeContract, match="shop/items has a column 'text_vector'"):
        brought_widths({"shop": frame(["a"], text_vector=two)})
