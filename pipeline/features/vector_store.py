"""Vectors that were computed once: a table keyed by what the text is, kept outside of every run.

It is a cache, and only a cache: what a stage writes does not depend on it. So a table that is broken is put aside
and built anew, and a row whose checksum is wrong counts as missing. SQLite, so that two processes may share it.
"""

from __future__ import annotations

import hashlib
import logging
import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np

from pipeline.data.sequences import Array
from pipeline.exit_codes import PassingFault
from pipeline.features.encoders import Encoder, encode_with_progress

log = logging.getLogger(__name__)

TABLE = "create table if not exists vectors (key blob primary key, crc integer, vector blob) without rowid"
KEYS_A_QUERY = 500
ROWS_A_COMMIT = 2048
PATIENCE_S = 60.0


class VectorStore:
    """Vectors by content key.

    Args:
        path: the SQLite file; made when missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def vectors_of(self, texts: Sequence[str], encoder: Encoder) -> tuple[Array, int]:
        """Vectors of `texts`; only those not in the table are encoded, and are put there.

        Returns:
            float32 [texts, width], and how many were encoded.

        Raises:
            PassingFault: the disk is full, or another process holds the table for too long.
        """
        keys = [content_key(encoder.identity, text) for text in texts]
        vectors = np.zeros((len(texts), encoder.width), dtype=np.float32)
        missing = self._fill(vectors, keys)
        if not missing:
            return vectors, 0
        waiting: list[tuple[bytes, bytes]] = []
        for places, batch in encode_with_progress(encoder, [texts[place] for place in missing]):
            for place, vector in zip([missing[i] for i in places], batch, strict=True):
                # stored and returned with the same rounding, so a second run sees the same numbers
                kept = vector.astype("<f2")
                vectors[place] = kept
                waiting.append((keys[place], kept.tobytes()))
            if len(waiting) >= ROWS_A_COMMIT:
                self._append(waiting)
                waiting.clear()
        self._append(waiting)
        return vectors, len(missing)

    def _fill(self, vectors: Array, keys: Sequence[bytes]) -> list[int]:
        """Write what the table knows into `vectors`; returns the places of what it does not know."""
        places = {key: place for place, key in enumerate(keys)}
        size = vectors.shape[1] * 2
        wrong = 0
        try:
            with self._open() as table:
                for start in range(0, len(keys), KEYS_A_QUERY):
                    part = keys[start : start + KEYS_A_QUERY]
                    marks = ",".join("?" * len(part))
                    query = f"select key, crc, vector from vectors where key in ({marks})"
                    for key, crc, vector in table.execute(query, part):
                        if len(vector) != size or zlib.crc32(vector) != crc:
                            wrong += 1
                            continue
                        vectors[places.pop(key)] = np.frombuffer(vector, dtype="<f2")
        except sqlite3.DatabaseError as error:
            self._forgive(error)
            return list(range(len(keys)))
        if wrong:
            log.warning("%s: %s vectors have a wrong checksum; encoding them again", self.path, f"{wrong:,}")
        return sorted(places.values())

    def _append(self, rows: Sequence[tuple[bytes, bytes]]) -> None:
        """Add rows in one transaction; a row another process has added meanwhile is the same row."""
        if not rows:
            return
        checked = [(key, zlib.crc32(vector), vector) for key, vector in rows]
        for attempt in range(2):
            try:
                with self._open() as table, table:
                    table.executemany("insert or replace into vectors values (?, ?, ?)", checked)
                return
            except sqlite3.DatabaseError as error:
                if attempt:
                    raise PassingFault(f"{self.path} cannot be written: {error}") from error
                self._forgive(error)

    def _forgive(self, error: sqlite3.DatabaseError) -> None:
        """Put a broken table aside. A full disk or a lock is not a broken table.

        Raises:
            PassingFault: it is something else that may pass.
        """
        if isinstance(error, sqlite3.OperationalError):
            raise PassingFault(f"{self.path} cannot be used: {error}") from error
        log.warning("%s is not a readable table (%s); building it anew", self.path, error)
        for suffix in ("", "-journal"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(self.path, timeout=PATIENCE_S)) as table:
            table.execute(TABLE)
            yield table


def content_key(identity: str, text: str) -> bytes:
    """What a vector is filed under: SHA-256 of the encoder's identity and the text."""
    return hashlib.sha256(f"{identity}\0{text}".encode()).digest()
