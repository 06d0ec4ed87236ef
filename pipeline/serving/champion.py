"""A loaded champion: one version of one target with one catalogue, and the queue of its own batches.

It never changes. A promotion or a new item makes another one and puts it in its place, so a request that began with
this one ends with it: indices, scores and ids are all of the same model.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np

from pipeline.compression.served_model import ServedModel
from pipeline.data.sequences import Array
from pipeline.exit_codes import DataBrokeContract
from pipeline.features.online_profile import at_sequence_start, profile_vector
from pipeline.serving.batching import Batcher
from pipeline.serving.metrics import Metrics
from pipeline.serving.online_features import Known

log = logging.getLogger("pipeline.serving")

FILTERS_KEPT = 256
WARM = ((1, 1), (1, 64), (2, 8), (8, 32), (64, 64))  # (batch, history) that the runtime has seen before users come


class Question(NamedTuple):
    """One request in the model's words."""

    history: list[int]
    profile: Array  # float32 [P]
    attributes: Sequence[str]
    seen: Sequence[int]
    k: int
    blocked: Array | None  # bool [m + 1]


@dataclass(frozen=True)
class Identity:
    """What the registry says of a version."""

    target: str
    name: str
    version: int
    run_id: str
    as_of: str
    content: str

    def __str__(self) -> str:
        return f"{self.name}/{self.version}"


class Ranking:
    """Many questions, one call of the graph. Knows no champion: there must be no circle for the collector to find."""

    def __init__(self, model: ServedModel) -> None:
        self._model = model

    def __call__(self, asked: Sequence[Question]) -> list[tuple[list[int], list[float]]]:
        """For each question rows and scores, best first. Runs in a thread."""
        k = min(max(one.k for one in asked), self._model.top_k)
        items, scores = self._model.recommend(
            [one.history for one in asked],
            np.stack([one.profile for one in asked]),
            [one.attributes for one in asked],
            [one.seen for one in asked],
            k,
            self._blocked_rows(asked),
        )
        answers = []
        for one, rows, values in zip(asked, items.tolist(), scores.tolist(), strict=True):
            n = min(one.k, rows.index(0) if 0 in rows else k)
            answers.append((rows[:n], values[:n]))
        return answers

    def _blocked_rows(self, asked: Sequence[Question]) -> Array | None:
        first = asked[0].blocked
        if all(one.blocked is first for one in asked):  # mostly: nobody filters, or all by the same
            return None if first is None else first[None]
        nothing = np.zeros(self._model.n_items + 1, dtype=bool)
        return np.stack([nothing if one.blocked is None else one.blocked for one in asked])


@dataclass
class Champion:
    """See the module's first lines.

    Attributes:
        identity: of the version.
        base: the model as exported.
        model: the same with the items listed since.
        loaded_at: UTC.
    """

    identity: Identity
    base: ServedModel
    model: ServedModel
    executor: Executor
    metrics: Metrics
    loaded_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __post_init__(self) -> None:
        serving = self.base.serving
        self.label = str(self.identity)
        self.project: str = serving["project"]
        self.domains: tuple[str, ...] = tuple(serving["domains"])
        self.history_length = int(serving.get("history_length", self.base.max_length))
        self.index, self.item_ids = self.model.item_index, self.model.item_ids
        self._filters: dict[tuple[str, ...], Array] = {}
        sizes = self.metrics.batch.labels(self.identity.target)
        self._rank = Ranking(self.model)
        self._ask = Batcher(self._rank, self.executor, seen=sizes.observe)

    @property
    def as_of(self) -> datetime | None:
        """What it has learned up to, UTC; None where the version does not say."""
        try:
            moment = datetime.fromisoformat(self.identity.as_of)
        except ValueError:
            return None
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)

    @property
    def listed(self) -> int:
        """Items that were listed after the export."""
        return self.model.n_items - self.base.n_items

    def grown_to(self, model: ServedModel) -> Champion:
        """The same version with another catalogue; makes what its first request would wait for. Blocks."""
        other = copy.copy(self)
        other.model = model
        other.__post_init__()
        _ = model.catalogue.by_popularity
        model.catalogue.without(["warm"])  # makes the index by attribute
        return other

    async def recommend(self, question: Question) -> tuple[list[int], list[float]]:
        """Rows of the catalogue and their scores, best first; fewer than k when no more are left."""
        return await self._ask(question)

    def profile(self, known: Known, first_time: int | None, attributes: Sequence[str], now: int) -> Array:
        """float32 [P]: a user's profile features as the model was trained to read them.

        Args:
            known: online features.
            first_time: microseconds UTC of the user's first interaction in this domain; None without any.
            attributes: of the user, those that the request brought included.
            now: microseconds UTC.
        """
        opened = at_sequence_start(self.identity.target, known.activity, now, first_time)
        row = {"attributes": list(attributes)} if attributes else known.profile
        scales = self.base.serving["value_scales"]
        return profile_vector(
            self.base.profile_features, row, opened.footprint, opened.activity, scales, opened.now
        )  # fmt: skip

    def blocked(self, required: Sequence[str]) -> Array | None:
        """bool [m + 1]: items that lack one of these attributes; None when nothing is required."""
        if not required:
            return None
        wanted = tuple(sorted(set(required)))
        found = self._filters.get(wanted)
        if found is None:
            if len(self._filters) >= FILTERS_KEPT:
                self._filters.clear()
            found = self._filters[wanted] = self.model.catalogue.without(wanted)
        return found

    def popular(self, k: int, seen: Sequence[int], blocked: Array | None) -> tuple[list[int], list[float]]:
        """The most popular items that are neither seen nor blocked, with their training interactions."""
        catalogue, out, left = self.model.catalogue, set(seen), []
        for row in catalogue.by_popularity.tolist():
            if row not in out and (blocked is None or not blocked[row]):
                left.append(row)
                if len(left) == k:
                    break
        return left, [float(catalogue.popularity[row]) for row in left]

    def check(self) -> None:
        """Ask the golden request, then warm every shape of batch. Blocks.

        Raises:
            DataBrokeContract: the model does not answer what it answered when it was exported.
        """
        if not self.base.golden_ok():
            raise DataBrokeContract(
                f"{self.label} does not give the answer that was written down at its export: it is not served"
            )
        profile = np.zeros(len(self.base.profile_features), dtype=np.float32)
        for size, length in WARM:
            history = [1 + place % self.base.n_items for place in range(min(length, self.base.max_length))]
            self._rank([Question(history, profile, ["warm"], history, self.base.top_k, None)] * size)

    def about(self) -> dict[str, Any]:
        """As `/v1/models` shows it."""
        return {
            "target": self.identity.target,
            "model": self.label,
            "version": self.identity.version,
            "run_id": self.identity.run_id,
            "as_of": self.identity.as_of,
            "items": self.model.n_items,
            "listed_items": self.listed,
            "loaded_at": self.loaded_at.isoformat(timespec="seconds").replace("+00:00", "Z"),
            "content": self.identity.content,
        }
