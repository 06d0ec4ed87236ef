"""Text vectors without torch: the same as the encoders make, in a process that never imports it."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from pipeline.exit_codes import BadConfiguration, PassingFault
from pipeline.features import onnx_text
from pipeline.features.encoders import Encoder, Hashing, MiniLM
from pipeline.features.onnx_text import text_encoder
from pipeline.settings import CHECKOUT

TEXTS = [
    "a red cup", "rote Gießkanne", "чёрный чай", "青いカップ 🙂", "UPPER case, punctuation!?", "x", "\u200b",
    *(f"garden spade number {n} " * n for n in (1, 2, 3, 5, 8, 20)), "word " * 600,
]  # fmt: skip


def made_by(encoder: Encoder, texts: list[str]) -> np.ndarray:
    vectors = np.zeros((len(texts), encoder.width), dtype=np.float32)
    for places, batch in encoder.encode(texts):
        vectors[places] = batch
    return vectors


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def minilm(home):
    return text_encoder(MiniLM().identity, home)


def test_the_language_model_gives_torchs_vectors(minilm):
    np.testing.assert_allclose(minilm(TEXTS), made_by(MiniLM(), TEXTS), atol=1e-4)


def test_hashes_are_the_hashing_encoders(home):
    np.testing.assert_array_equal(text_encoder("hashing 1", home)(TEXTS), made_by(Hashing(), TEXTS))


@pytest.mark.parametrize("identity", ["hashing 1", MiniLM().identity])
def test_no_words_no_vector(identity, home, minilm):
    vectors = text_encoder(identity, home)(["  \n", "cup", ""])
    assert np.abs(vectors).max(axis=1).tolist() == pytest.approx([0, np.abs(vectors[1]).max(), 0])
    assert np.linalg.norm(vectors[1]) == pytest.approx(1, abs=1e-5)
    assert text_encoder(identity, home)([]).shape == (0, vectors.shape[1])


def test_torch_is_not_imported(home, minilm):
    code = (
        "import sys; from pathlib import Path\n"
        "from pipeline.features.onnx_text import text_encoder\n"
        f"for identity in ({MiniLM().identity!r}, 'hashing 1'):\n"
        f"    text_encoder(identity, Path({str(home)!r}))(['cup'])\n"
        "assert not {'torch', 'transformers', 'sentence_transformers'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=CHECKOUT)


def test_the_graph_is_made_once(home, minilm, monkeypatch):
    monkeypatch.setattr(onnx_text.subprocess, "run", None)
    text_encoder("minilm " + MiniLM().identity.split()[1] + " gpu", home)  # made on a GPU: the same weights


@pytest.mark.parametrize("identity", ["minilm 9.9.9 cpu", "hashing 2", "handmade"])
def test_another_encoder_is_refused(identity, home):
    with pytest.raises(BadConfiguration, match=identity.split()[0]):
        text_encoder(identity, home)


def test_a_graph_that_cannot_be_made(tmp_path):
    (tmp_path / "cache").write_text("a file stands in the way")
    with pytest.raises(PassingFault, match="could not be made"):
        text_encoder(MiniLM().identity, tmp_path)
    assert (tmp_path / "cache").is_file()
