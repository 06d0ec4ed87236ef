"""Items that were listed since the model was trained: kept in PostgreSQL, encoded by the champion, one row each.

They survive a restart (the table `listed_items`), every new champion encodes them again, and the next snapshot takes
them into its items.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import psycopg

from pipeline.compression.served_model import ServedModel
from pipeline.data.sequences import Array
from pipeline.exit_codes import PassingFault
from pipeline.features.online_profile import item_vector
from pipeline.serving.feedback import CONNECT_SECONDS, OPTIONS
from pipeline.serving.users import micros

log = logging.getLogger("pipeline.serving")

UPSERT = """
insert into listed_items (target, item_id, text, attributes, available_from, listed_at) values (%s, %s, %s, %s, %s, %s)
on conflict (target, item_id) do update
set text = excluded.text, attributes = excluded.attributes, available_from = excluded.available_from
"""
SELECT = (
    "select item_id, text, attributes, available_from from listed_items where target = %s order by listed_at, item_id"
)
TEXTS_KEPT = 20_000  # text vectors in memory, so that the next champion has only to whiten them


@dataclass(frozen=True)
class ListedItem:
    """An item as its caller described it."""

    item_id: str
    text: str | None
    attributes: tuple[str, ...]
    available_from: datetime | None

    def due(self, now: datetime) -> bool:
        """May it be recommended?"""
        return self.available_from is None or self.available_from <= now


class ListedItems:
    """The table `listed_items`, by target; several threads may use it."""

    def __init__(self, url: str) -> None:
        self._url = url

    def put(self, target: str, item: ListedItem, now: datetime) -> None:
        """Commit an item, listed `now`; the same id again describes it anew, listed when it first was.

        Raises:
            PassingFault: PostgreSQL is away.
        """
        with self._connected() as connection:
            described = (item.item_id, item.text, list(item.attributes), item.available_from)
            connection.execute(UPSERT, (target, *described, now))

    def read(self, target: str) -> dict[str, ListedItem]:
        """Every item, the first listed first.

        Raises:
            PassingFault: PostgreSQL is away.
        """
        with self._connected() as connection:
            rows = connection.execute(SELECT, (target,)).fetchall()
        return {item: ListedItem(item, text, tuple(attributes), since) for item, text, attributes, since in rows}

    def _connected(self) -> psycopg.Connection:
        try:
            return psycopg.connect(self._url, connect_timeout=CONNECT_SECONDS, options=OPTIONS)
        except psycopg.OperationalError as fault:
            raise PassingFault(f"PostgreSQL does not answer ({' '.join(str(fault).split())[:200]})") from fault


class ItemEncoding:
    """Items to vectors with whatever a champion needs; text vectors are kept between champions."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._encoders: dict[str, Callable[[Sequence[str]], Array]] = {}
        self._texts: dict[tuple[str, str], Array] = {}
        self._lock = threading.Lock()

    def prepare(self, model: ServedModel) -> None:
        """Load the text encoder of a model, so that the first new item does not wait for it.

        Raises:
            BadConfiguration, PassingFault: see `text_encoder`.
        """
        self._encoder(model.serving["encoder"])(["warm"])

    def __call__(self, model: ServedModel, items: Sequence[ListedItem], now: datetime) -> Array:
        """float32 [n, D], rows for the catalogue of `model`.

        Raises:
            BadConfiguration: the model cannot encode items, or another text encoder is installed.
        """
        serving, domain = model.serving, model.about["served"]["domain"]
        scale, half_life = serving["value_scales"][domain], float(serving["half_life_days"])
        features = np.zeros((len(items), len(model.item_features)), dtype=np.float32)
        for row, item in enumerate(items):
            since = micros(item.available_from) if item.available_from else None
            features[row] = item_vector(model.item_features, None, since, scale, half_life, micros(now))
        text = None
        if "text" in dict(model.about["spec"]["modalities"]):
            with self._lock:  # encoders are not asked by several threads at once
                raw = self._text_vectors(serving["encoder"], [item.text or "" for item in items])
            text = model.whiten(raw) * _has_text(items)
        return model.encode_items(text, [list(item.attributes) for item in items], features)

    def _text_vectors(self, identity: str, texts: Sequence[str]) -> Array:
        found = {text: self._texts[identity, text] for text in texts if (identity, text) in self._texts}
        if missing := [text for text in dict.fromkeys(texts) if text not in found]:
            found |= zip(missing, self._encoder(identity)(missing), strict=True)
            if len(self._texts) + len(missing) > TEXTS_KEPT:
                self._texts.clear()
            self._texts |= {(identity, text): found[text] for text in missing[:TEXTS_KEPT]}
        return np.stack([found[text] for text in texts])

    def _encoder(self, identity: str) -> Callable[[Sequence[str]], Array]:
        if identity not in self._encoders:
            from pipeline.features.onnx_text import text_encoder

            self._encoders[identity] = text_encoder(identity, self._home)
        return self._encoders[identity]


def _has_text(items: Sequence[ListedItem]) -> Array:
    """float32 [n, 1]: an item without words has no text vector, as in `embed`; whitened, it would have one."""
    return np.array([[bool((item.text or "").strip())] for item in items], dtype=np.float32)


def grown(base: ServedModel, items: Mapping[str, ListedItem], encode: ItemEncoding, now: datetime) -> ServedModel:
    """`base` with those listed items that may be recommended now and that it was not trained on."""
    fresh = [item for item in items.values() if item.due(now) and item.item_id not in base.item_index]
    if not fresh:
        return base
    vectors = encode(base, fresh, now)
    return base.with_items([item.item_id for item in fresh], vectors, [list(item.attributes) for item in fresh])
