"""Text to vector without torch: what a server uses for an item that was listed a moment ago.

    encode = text_encoder(model.serving["encoder"], settings().home)     # seconds, the first time half a minute
    vectors = model.whiten(encode(["a red cup"]))                        # milliseconds

The vectors are those of `pipeline.features.encoders` with the same identity, but for rounding: the language model is
the same weights as an ONNX graph, made once under `$WARMSTART_HOME/cache/encoders` by a child process that has torch.
"""

from __future__ import annotations

import importlib.metadata
import json
import logging
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from pipeline.data.sequences import Array
from pipeline.exit_codes import BadConfiguration, PassingFault
from pipeline.features.encoders import Hashing, MiniLM

log = logging.getLogger(__name__)

TextEncoder = Callable[[Sequence[str]], Array]  # n texts -> float32 [n, width]; zeros for a text of white space alone
BATCH = 8  # 256 wordpieces each: a server has a few hundred MB to spare, and mostly one text
PATIENCE_S = 300.0


def text_encoder(identity: str, home: Path, threads: int = 1) -> TextEncoder:
    """The encoder that made a model's text vectors.

    Args:
        identity: of an `Encoder`, as `serving.encoder` of a served model says it.
        home: of the stack; the graph is kept there.
        threads: of one call.

    Raises:
        BadConfiguration: this installation has another encoder, or none: its vectors would mean something else.
        PassingFault: the graph could not be made.
    """
    kind = identity.partition(" ")[0]
    if kind == "hashing":
        _refuse_another(identity, Hashing().identity)
        return _Texts(_hashed, Hashing().width)
    if kind != "minilm":
        raise BadConfiguration(f"no text encoder is called {kind!r} ({identity!r}); there are minilm and hashing")
    folder = MiniLM.folder_of_weights()
    version = importlib.metadata.version(MiniLM.PACKAGE)
    # "cpu" or "gpu" says where the training vectors were made; the two differ by rounding
    _refuse_another(" ".join(identity.split()[:2]), f"minilm {version}")
    graph = home / "cache" / "encoders" / f"minilm-{version}.onnx"
    if not graph.exists():
        _export(graph)
    return _Texts(_MiniLMGraph(graph, folder, threads), MiniLM.WIDTH)


class _Texts:
    """Leaves out what has no words, as `embed` does."""

    def __init__(self, encode: TextEncoder, width: int) -> None:
        self._encode, self._width = encode, width

    def __call__(self, texts: Sequence[str]) -> Array:
        vectors = np.zeros((len(texts), self._width), dtype=np.float32)
        words = [row for row, text in enumerate(texts) if text.strip()]
        for start in range(0, len(words), BATCH):
            part = words[start : start + BATCH]
            vectors[part] = self._encode([texts[row] for row in part])
        return vectors


def _hashed(texts: Sequence[str]) -> Array:
    return np.concatenate([vectors for _, vectors in Hashing().encode(texts)])


class _MiniLMGraph:
    """The graph and its wordpieces."""

    def __init__(self, graph: Path, folder: Path, threads: int) -> None:
        import onnxruntime as ort
        from tokenizers import Tokenizer

        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        # Its arena would keep the memory of the longest text ever seen.
        options.enable_cpu_mem_arena = False
        self._session = ort.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        longest = json.loads((folder / "sentence_bert_config.json").read_text("utf-8"))["max_seq_length"]
        self._tokenizer.enable_truncation(longest)
        self._tokenizer.enable_padding()  # to the longest of a batch, with 0

    def __call__(self, texts: Sequence[str]) -> Array:
        found = self._tokenizer.encode_batch(list(texts))
        inputs = {
            "input_ids": np.array([text.ids for text in found], dtype=np.int64),
            "attention_mask": np.array([text.attention_mask for text in found], dtype=np.int64),
        }
        return self._session.run(["sentence_embedding"], inputs)[0]


def _refuse_another(wanted: str, installed: str) -> None:
    if wanted != installed:
        raise BadConfiguration(
            f"the model was made with the text encoder {wanted!r} and {installed!r} is installed: its vectors mean "
            "something else; install requirements/stages.txt of the model's commit, or retrain"
        )


def _export(graph: Path) -> None:
    log.info("making %s, once", graph)
    command = [sys.executable, "-m", "pipeline.features.export_minilm", str(graph)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise PassingFault(f"{graph} was not made within {PATIENCE_S:.0f} s") from error
    if done.returncode:
        last = (done.stderr.strip() or "it said nothing").splitlines()[-1]
        raise PassingFault(f"{graph} could not be made (exit code {done.returncode}): {last}")
