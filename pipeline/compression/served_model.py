"""A served model's folder with ONNX Runtime alone: what the server and the gate use. No torch.

model = ServedModel(Path("models/served/harbour"))
items, scores = model.recommend([[3, 17]], profile, [["city:1"]], seen=[[3, 17]], k=10)
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import polars as pl

from pipeline.data.sequences import Array
from pipeline.exit_codes import BadConfiguration
from pipeline.models.attributes import padded_bags
from pipeline.models.padding import Items, left_padded, right_padded

MODEL, ABOUT, ITEMS = "model.onnx", "model.json", "items.parquet"


class ServedModel:
    """One exported model.

    Attributes:
        about: `model.json`.
        n_items: items of its catalogue, padding not counted.
        top_k: most items that one call returns.
        max_length: items of a history that it reads.
        profile_features: names of the columns it wants, in order.
    """

    def __init__(self, folder: Path, threads: int = 1) -> None:
        """Raises:
        BadConfiguration: the folder is not a served model's.
        """
        try:
            self.about: dict[str, Any] = json.loads((folder / ABOUT).read_text("utf-8"))
            options = ort.SessionOptions()
            options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
            self._session = ort.InferenceSession(
                (folder / MODEL).read_bytes(), options, providers=["CPUExecutionProvider"]
            )
            served = self.about["served"]
            self.n_items: int = served["n_items"]
            self.top_k: int = served["top_k"]
            spec = self.about["spec"]
            self.max_length: int = spec["max_length"]
            self.profile_features: tuple[str, ...] = tuple(spec["profile_features"])
            self._profile_buckets: int = spec["profile_buckets"]
        except (FileNotFoundError, KeyError, ValueError) as error:
            raise BadConfiguration(f"{folder} does not hold a served model ({error!r}); run prune again") from error
        self._folder = folder
        self._only_asked = ort.RunOptions()
        # Ranking wants all scores and no top-k, a server the reverse: nobody pays for what he does not ask for.
        self._only_asked.only_execute_path_to_fetches = True

    @cached_property
    def item_ids(self) -> list[str]:
        """[n_items + 1], "" at 0."""
        return ["", *pl.read_parquet(self._folder / ITEMS)["item_id"].to_list()]

    @cached_property
    def item_index(self) -> dict[str, int]:
        """The inverse of `item_ids`."""
        return {item: index for index, item in enumerate(self.item_ids) if index}

    def recommend(
        self,
        histories: Sequence[Items],
        profile: Array,
        profile_attributes: Sequence[Sequence[str]],
        seen: Sequence[Items],
        k: int,
    ) -> tuple[Array, Array]:
        """The best unseen items.

        Args:
            histories: B lists of item indices, chronological, possibly empty.
            profile: float32 [B, P].
            profile_attributes: B lists of attributes, e.g. "city:1".
            seen: B lists of item indices never to be returned.
            k: at most `top_k`.

        Returns:
            items int64 [B, k] and scores float32 [B, k], best first; item 0 where nothing is left.

        Raises:
            ValueError: k is larger than the graph gives.
        """
        if k > self.top_k:
            raise ValueError(f"k is {k}; this model was exported with top_k = {self.top_k}")
        inputs = {**self._inputs(histories, profile, profile_attributes), "seen": right_padded(seen)}
        items, scores = self._session.run(["items", "scores"], inputs, self._only_asked)
        return np.where(np.isneginf(scores), 0, items)[:, :k], scores[:, :k]

    def scores(
        self,
        histories: Sequence[Items],
        profile: Array,
        profile_attributes: Sequence[Sequence[str]],
    ) -> Array:
        """Scores of the whole catalogue, nothing masked: float32 [B, n_items + 1], -inf in column 0."""
        if not len(histories):  # the runtime has no kernel for attention over nobody
            return np.zeros((0, 1 + self.n_items), dtype=np.float32)
        inputs = {
            **self._inputs(histories, profile, profile_attributes),
            "seen": np.zeros((len(histories), 1), dtype=np.int64),
        }
        return self._session.run(["all_scores"], inputs, self._only_asked)[0]

    def _inputs(
        self, histories: Sequence[Items], profile: Array, attributes: Sequence[Sequence[str]]
    ) -> dict[str, Array]:
        return {
            "history": left_padded(histories, self.max_length),
            "profile": np.ascontiguousarray(profile, dtype=np.float32),
            "profile_attributes": padded_bags(attributes, self._profile_buckets),
        }
