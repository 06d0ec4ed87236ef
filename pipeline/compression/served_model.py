"""A served model's folder with ONNX Runtime alone: what the server and the gate use. No torch.

model = ServedModel(Path("models/served/harbour"))
items, scores = model.recommend([[3, 17]], profile, [["city:1"]], seen=[[3, 17]], k=10)
model.item_ids[items[0, 0]]

vectors = model.encode_items(model.whiten(raw), [["brand:7"]], features)   # a new item, seconds after it was listed
model = model.with_items(["new-1"], vectors, [["brand:7"]])
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from pipeline.compression.catalogue import ServedCatalogue, read_catalogue, read_item_ids
from pipeline.compression.explanation import Carrier, carriers
from pipeline.compression.new_items import NewItemEncoder
from pipeline.compression.packed_rows import FLOAT32
from pipeline.data.sequences import Array
from pipeline.evaluation.kept_places import in_order
from pipeline.exit_codes import BadConfiguration
from pipeline.models.attributes import padded_bags
from pipeline.models.padding import Items, left_padded, right_padded

MODEL, ABOUT = "model.onnx", "model.json"


class ServedModel:
    """One exported model, and the catalogue it ranks. Safe to use from several threads at once.

    Attributes:
        about: `model.json`.
        top_k: most items that one call returns.
        max_length: items of a history that it reads.
        profile_features, item_features: names of the columns it wants, in order.
    """

    def __init__(self, folder: Path, threads: int = 1) -> None:
        """Raises:
        BadConfiguration: the folder is not a served model's.
        """
        try:
            self.about: dict[str, Any] = json.loads((folder / ABOUT).read_text("utf-8"))
            self._session = ort.InferenceSession(
                (folder / MODEL).read_bytes(), session_options(threads), providers=["CPUExecutionProvider"]
            )
            served = self.about["served"]
            self._exported_items: int = served["n_items"]
            self.top_k: int = served["top_k"]
            self._rows: str = served.get("rows", FLOAT32)  # models of before had no others
            spec = self.about["spec"]
            self.max_length: int = spec["max_length"]
            self.profile_features: tuple[str, ...] = tuple(spec["profile_features"])
            self.item_features: tuple[str, ...] = tuple(spec["item_features"])
            self._profile_buckets: int = spec["profile_buckets"]
            self.kept_places: int = spec.get("kept_places", 0)
        except (FileNotFoundError, KeyError, ValueError) as error:
            raise BadConfiguration(f"{folder} does not hold a served model ({error!r}); run prune again") from error
        self.folder, self._threads = folder, threads
        self._grown: ServedCatalogue | None = None  # the catalogue, where it is not that of the export
        self._given: dict[str, Array] = {}  # the same, as the graph wants it

    # the catalogue

    @property
    def n_items(self) -> int:
        """Items of the catalogue, padding not counted."""
        return self._grown.n_items if self._grown is not None else self._exported_items

    @property
    def catalogue(self) -> ServedCatalogue:
        """Ids, attributes, popularity and vectors of what is ranked.

        Raises:
            BadConfiguration: the model was exported before catalogues could grow.
        """
        return self._grown if self._grown is not None else self.exported_catalogue

    @cached_property
    def exported_catalogue(self) -> ServedCatalogue:
        """That of the export, whatever was added since."""
        return read_catalogue(self.folder)

    @cached_property
    def _exported_ids(self) -> tuple[list[str], dict[str, int]]:
        # a champion of an earlier format has nothing else, and ranking asks for nothing else
        item_ids = read_item_ids(self.folder)
        return item_ids, {item: row for row, item in enumerate(item_ids) if row}

    @property
    def item_ids(self) -> Sequence[str]:
        """[n_items + 1], "" at 0."""
        return self._grown.item_ids if self._grown is not None else self._exported_ids[0]

    @property
    def item_index(self) -> Mapping[str, int]:
        """The inverse of `item_ids`."""
        return self._grown.item_index if self._grown is not None else self._exported_ids[1]

    def with_items(self, item_ids: Sequence[str], vectors: Array, attributes: Sequence[Sequence[str]]) -> ServedModel:
        """The same model with more items; this one stays as it is. See `ServedCatalogue.with_items`.

        Cheap: graph and session are shared, the vectors are copied once.
        """
        grown = copy.copy(self)
        grown._grown = self.catalogue.with_items(item_ids, vectors, attributes)
        grown._given = self._as_inputs(grown._grown.vectors)
        return grown

    def _as_inputs(self, vectors: Array) -> dict[str, Array]:
        """A catalogue that begins with the rows of the export, float32 [m + 1, D], as the graph's inputs."""
        if self._rows == FLOAT32:
            return {"vectors": vectors}
        return {"added": vectors[1 + self._exported_items :]}

    @property
    def is_new(self) -> Array:
        """bool [n_items + 1]: nobody had taken the item when the model was trained; True at 0."""
        return self.catalogue.popularity == 0

    # answers

    def recommend(
        self,
        histories: Sequence[Items],
        profile: Array,
        profile_attributes: Sequence[Sequence[str]],
        seen: Sequence[Items],
        k: int,
        blocked: Array | None = None,
    ) -> tuple[Array, Array]:
        """The best items that are neither seen nor blocked.

        Args:
            histories: B lists of item indices, chronological, possibly empty.
            profile: float32 [B, P].
            profile_attributes: B lists of attributes, e.g. "city:1".
            seen: B lists of item indices never to be returned.
            k: at most `top_k`.
            blocked: bool [B, n_items + 1], or [1, n_items + 1] for all; True is never returned. See
                `ServedCatalogue.without`.

        Returns:
            items int64 [B, k] and scores float32 [B, k], best first; item 0 where nothing is left. Where places are
            kept for trained items (`kept_places`), these stand first, whatever their scores.

        Raises:
            ValueError: k is larger than the graph gives.
        """
        if k > self.top_k:
            raise ValueError(f"k is {k}; this model was exported with top_k = {self.top_k}")
        items, scores = self._ranked(histories, profile, profile_attributes, seen, blocked)
        if self.kept_places:
            order = in_order(self.is_new[items] & (items > 0), self.kept_places)
            items, scores = (np.take_along_axis(column, order, axis=1) for column in (items, scores))
        return items[:, :k], scores[:, :k]

    def _ranked(
        self,
        histories: Sequence[Items],
        profile: Array,
        profile_attributes: Sequence[Sequence[str]],
        seen: Sequence[Items],
        blocked: Array | None = None,
    ) -> tuple[Array, Array]:
        """The first `top_k` as the graph has them."""
        inputs = {**self._inputs(histories, profile, profile_attributes), "seen": right_padded(seen)}
        if blocked is not None:
            inputs["blocked"] = np.ascontiguousarray(blocked, dtype=bool)
        items, scores = self._session.run(["items", "scores"], inputs)
        return np.where(np.isneginf(scores), 0, items), scores

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
        return self._run("all_scores", inputs)

    def _run(self, output: str, inputs: Mapping[str, Array]) -> Array:
        return self._session.run([output], inputs)[0]

    def _inputs(
        self, histories: Sequence[Items], profile: Array, attributes: Sequence[Sequence[str]]
    ) -> dict[str, Array]:
        inputs: dict[str, Array] = {
            "history": left_padded(histories, self.max_length),
            "profile": np.ascontiguousarray(profile, dtype=np.float32),
            "profile_attributes": padded_bags(attributes, self._profile_buckets),
        }
        return inputs | self._given

    def explain(self, history: Items, profile: Array, profile_attributes: Sequence[str], item: int) -> list[Carrier]:
        """Which past items carried one item, those that did most first; see `explain_all`."""
        return self.explain_all(history, profile, profile_attributes, [item])[0]

    def explain_all(
        self, history: Items, profile: Array, profile_attributes: Sequence[str], items: Items
    ) -> list[list[Carrier]]:
        """Which of a user's past items carried each of `items`, in one call of the graph; see `carriers`.

        Args:
            history: item indices, chronological; empty: nothing can have carried anything.
            profile: float32 [P].
            profile_attributes: of the user.
            items: item indices, e.g. what `recommend` gave.

        Raises:
            BadConfiguration: the model was exported before catalogues could grow.
        """

        def score(histories: Sequence[Items], vectors: Array) -> Array:
            n = len(histories)
            # where the rows of the export cannot be replaced, these come behind, and padding stays what it is
            before = 0 if self._rows == FLOAT32 else self._exported_items
            moved = [np.asarray(history, dtype=np.int64) + before for history in histories]
            given = {"added": vectors[1:]} if before else {"vectors": vectors}
            profiles = np.broadcast_to(np.asarray(profile), (n, len(self.profile_features)))
            inputs = self._inputs(moved, profiles, [profile_attributes] * n)
            nothing = {"seen": np.zeros((n, 1), dtype=np.int64)}
            return self._run("all_scores", inputs | nothing | given)[:, before:]

        return carriers(score, self.catalogue.vectors, history[-self.max_length :], items)

    # new items

    @cached_property
    def _encoder(self) -> NewItemEncoder:
        return NewItemEncoder(self.folder, self.about["spec"], session_options(self._threads))

    def encode_items(
        self,
        text: Array | None,
        attributes: Sequence[Sequence[str]],
        features: Array,
        others: Mapping[str, Array] | None = None,
    ) -> Array:
        """Vectors of items that are in no catalogue, float32 [n, D]; see `NewItemEncoder`."""
        return self._encoder(text, attributes, features, others or {})

    def whiten(self, raw: Array) -> Array:
        """Text vectors as the encoder made them, whitened as `embed` does: float32 [n, raw width] -> [n, width]."""
        return self._encoder.whiten(raw)

    # what stands beside the graph

    @property
    def serving(self) -> dict[str, Any]:
        """What a server has to know of the data: dataset, Feast project, clock, value scales, encoder, …

        Raises:
            BadConfiguration: the model was exported by a version that did not say it.
        """
        return self._said("serving")

    def golden_ok(self) -> bool:
        """Does the exported catalogue get the answer that was written down at the export?

        Items in the same order, except where their scores are equal within rounding.

        Raises:
            BadConfiguration: the model was exported by a version that wrote none.
        """
        golden = self._said("golden")
        exported = copy.copy(self)
        exported._grown, exported._given = None, {}
        index = exported.item_index
        history = [index[item] for item in golden["history"]]
        profile = np.array([golden["profile"]], dtype=np.float32)
        _, scores = exported._ranked([history], profile, [golden["attributes"]], [history])
        of_these = exported.scores([history], profile, [golden["attributes"]])[0]
        wanted = np.array(golden["scores"], dtype=np.float32)
        found = of_these[[index[item] for item in golden["items"]]]
        return bool(close(scores[0, : len(wanted)], wanted).all() and close(found, wanted).all())

    def _said(self, key: str) -> dict[str, Any]:
        if key not in self.about:
            raise BadConfiguration(
                f"{self.folder / ABOUT} says nothing of {key}: the model was exported by an earlier version; "
                "run prune again, or promote a newer version"
            )
        return self.about[key]


CLOSE = 1e-4  # of scores, absolute and relative: two runtimes add up in different orders


def close(one: Array, other: Array) -> Array:
    """bool, elementwise: equal but for the order of additions."""
    return np.isclose(one, other, rtol=CLOSE, atol=CLOSE)


def session_options(threads: int) -> ort.SessionOptions:
    """Of every ONNX session here."""
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3  # errors: it would warn that an input has a default, which is what we want
    return options
