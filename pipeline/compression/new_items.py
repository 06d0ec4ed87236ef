"""Vectors of items that no catalogue has yet: text, attributes and features through the exported item encoder.

It needs `item_encoder.onnx` and `whitening.safetensors` of a served folder, and neither torch nor a retraining.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from pipeline.data.sequences import Array
from pipeline.exit_codes import BadConfiguration
from pipeline.features.whitening import WHITENING, read_whitening
from pipeline.models.attributes import padded_bags

ITEM_ENCODER = "item_encoder.onnx"
TEXT, VECTOR = "text", "_vector"


class NewItemEncoder:
    """The item encoder of one served folder."""

    def __init__(self, folder: Path, spec: Mapping[str, Any], options: ort.SessionOptions) -> None:
        """Raises:
        BadConfiguration: the folder has no item encoder.
        """
        missing = [name for name in (ITEM_ENCODER, WHITENING) if not (folder / name).exists()]
        if missing:
            raise BadConfiguration(
                f"{folder} has no {' and no '.join(missing)}: it cannot encode new items; run prune again"
            )
        self._session = ort.InferenceSession(
            (folder / ITEM_ENCODER).read_bytes(), options, providers=["CPUExecutionProvider"]
        )
        self._modalities = {name: int(width) for name, width in spec["modalities"]}
        self._buckets: int = spec["attribute_buckets"]
        self._n_features = len(spec["item_features"])
        self._reads_features = "features" in {given.name for given in self._session.get_inputs()}
        self._whitening = read_whitening(folder)

    def __call__(
        self, text: Array | None, attributes: Sequence[Sequence[str]], features: Array, others: Mapping[str, Array]
    ) -> Array:
        """Encode.

        Args:
            text: float32 [n, width], whitened (`whiten`); zeros for an item without text. None: no item has any.
            attributes: n lists.
            features: float32 [n, F], in the order of the model's item features.
            others: by name of another modality its vectors, as `text`; one that is not named is missing.

        Returns:
            float32 [n, D], without an ID part, as the model reads items it was not trained on.

        Raises:
            ValueError: an array has another shape than the model reads, or a modality is unknown.
        """
        n = len(attributes)
        given = dict(others) | ({TEXT: text} if text is not None else {})
        unknown = sorted(set(given) - set(self._modalities))
        if unknown:
            raise ValueError(f"the model reads the vectors {sorted(self._modalities)} of an item, not {unknown}")
        inputs: dict[str, Array] = {}
        for name, width in self._modalities.items():
            vectors = given.get(name)
            inputs[name + VECTOR] = np.zeros((n, width)) if vectors is None else _shaped(vectors, (n, width), name)
        if self._n_features:
            shaped = _shaped(features, (n, self._n_features), "features")
            inputs |= {"features": shaped} if self._reads_features else {}
        if n == 0:
            return np.zeros((0, int(self._session.get_outputs()[0].shape[1])), dtype=np.float32)
        inputs = {name: np.ascontiguousarray(array, dtype=np.float32) for name, array in inputs.items()}
        inputs["attributes"] = padded_bags(attributes, self._buckets)
        return self._session.run(["vectors"], inputs)[0]

    def whiten(self, raw: Array) -> Array:
        """As `embed` does, which keeps what an encoder gives in two bytes a number: float32 [n, in] -> [n, out].

        A row of zeros is an item without text and stays one; whitening alone would give it the mean of all texts.
        """
        kept = raw.astype("<f2").astype(np.float32)
        return self._whitening(kept) * kept.any(axis=1, keepdims=True)


def _shaped(array: Array, shape: tuple[int, int], name: str) -> Array:
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape} where {shape} is expected")
    return array
