"""The simple rankers that every model has to beat, fitted on the training part alone.

Each is a `Scorer`; each setting that matters is chosen on the validation rows by masked NDCG@10, as ours are.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import numpy as np
import scipy.sparse as sp

from pipeline.data.sequences import Array
from pipeline.data.training_set import DomainData, Holdout
from pipeline.evaluation.metrics import ndcg
from pipeline.evaluation.ranking import Requests, Scorer, rank_holdout
from pipeline.models.unit_rows import unit_rows

log = logging.getLogger(__name__)

EASE_ITEMS = 10_000  # its matrix is items × items, and inverting it costs the cube


@dataclass(frozen=True)
class Popularity:
    """The same ranking for everybody."""

    weights: Array  # float64 [n_items + 1]

    def scores(self, requests: Requests) -> Array:
        """float64 [B, n_items + 1]."""
        return np.broadcast_to(self.weights, (len(requests), len(self.weights)))

    @classmethod
    def all_time(cls, data: DomainData) -> Popularity:
        """Counts of training interactions."""
        return cls(np.bincount(data.items, minlength=data.n_items + 1).astype(np.float64))

    @classmethod
    def recent(cls, data: DomainData, half_life: float) -> Popularity:
        """Counts that halve with age; `half_life` as a share of the training time range."""
        if len(data.items) == 0:
            return cls.all_time(data)
        newest, oldest = int(data.times.max()), int(data.times.min())
        age = (newest - np.asarray(data.times)) / max(newest - oldest, 1)  # 0 is the newest, 1 the oldest
        return cls(np.bincount(data.items, weights=0.5 ** (age / half_life), minlength=data.n_items + 1))


def _history_matrix(requests: Requests, n_columns: int, decay: float) -> sp.csr_array:
    """[B, n_columns] with `decay ** age` at each item of a history; age 0 is the last item."""
    lengths = np.array([len(history) for history in requests.histories], dtype=np.int64)
    columns = np.concatenate([*requests.histories, np.zeros(0, dtype=np.int32)])
    ages = np.concatenate([*(np.arange(n)[::-1] for n in lengths), np.zeros(0)])
    rows = np.repeat(np.arange(len(lengths)), lengths)
    # A long history ends in weights below the smallest number; they are zero for our purpose.
    weights = np.power(decay, ages)
    return sp.csr_array((weights, (rows, columns)), shape=(len(lengths), n_columns))


def _seen(data: DomainData) -> sp.csr_array:
    """Who took what in the training part: [n_users, n_items + 1] of ones."""
    users = np.repeat(np.arange(data.n_users), np.diff(data.offsets))
    seen = sp.csr_array((np.ones(len(users)), (users, np.asarray(data.items))), shape=(data.n_users, data.n_items + 1))
    seen.data[:] = 1.0  # repeated interactions were summed
    return seen


@dataclass(frozen=True)
class ItemNeighbours:
    """Item-kNN: cosine of the items' user sets, shrunk where few users are shared (Sarwar et al. 2001)."""

    similarity: sp.csr_array  # float64 [n_items + 1, n_items + 1], zero diagonal
    decay: float

    def scores(self, requests: Requests) -> Array:
        """float64 [B, n_items + 1]."""
        return (_history_matrix(requests, self.similarity.shape[0], self.decay) @ self.similarity).toarray()

    @classmethod
    def fit(cls, data: DomainData, decay: float, shrink: float) -> ItemNeighbours:
        """From the binary user × item matrix of the training part."""
        seen = _seen(data)
        shared = (seen.T @ seen).tocoo()  # users in common
        count = np.sqrt(seen.sum(0))
        norm = count[shared.row] * count[shared.col] + shrink
        off = shared.row != shared.col
        weights = (shared.data / norm)[off]
        similarity = sp.csr_array((weights, (shared.row[off], shared.col[off])), shape=shared.shape)
        return cls(similarity, decay)


@dataclass(frozen=True)
class Ease:
    """EASE: the linear item-to-item model with a closed form (Steck, arXiv 1905.03375)."""

    weights: Array  # float32 [n_items + 1, n_items + 1], zero diagonal

    def scores(self, requests: Requests) -> Array:
        """float32 [B, n_items + 1]."""
        history = _history_matrix(requests, len(self.weights), 1.0).astype(np.float32)
        return np.asarray(history @ self.weights)

    @classmethod
    def fit(cls, data: DomainData, ridge: float) -> Ease:
        """B = I - P / diag(P), P the inverse of the ridged Gram matrix of users who took both."""
        seen = _seen(data)
        gram = (seen.T @ seen).toarray().astype(np.float32)
        gram[np.diag_indices_from(gram)] += np.float32(ridge)
        inverse = np.linalg.inv(gram)
        weights = inverse / -np.diag(inverse)
        np.fill_diagonal(weights, 0.0)
        return cls(weights)


@dataclass(frozen=True)
class ContentNeighbours:
    """Items nearest to the decayed mean of the history's content vectors; no parameters are learned."""

    vectors: Array  # float32 [n_items + 1, W], rows of unit length or zero
    decay: float

    def scores(self, requests: Requests) -> Array:
        """float32 [B, n_items + 1]."""
        history = _history_matrix(requests, len(self.vectors), self.decay)
        return np.asarray(history @ self.vectors, dtype=np.float32) @ self.vectors.T


def best_on_validation(
    candidates: Iterable[tuple[str, Callable[[], Scorer]]], validation: Holdout, n_items: int
) -> tuple[str, Scorer]:
    """The candidate with the highest masked NDCG@10; the first where validation has no rows or none is better."""
    best: tuple[float, str, Scorer] | None = None
    for name, build in candidates:
        scorer = build()
        found = ndcg(rank_holdout(scorer, validation, n_items).masked, 10)
        value = float(found.mean()) if len(found) else 0.0
        if best is None or value > best[0]:
            best = (value, name, scorer)
    if best is None:
        raise ValueError("no candidates")
    log.info("%s: best of its settings, validation NDCG@10 %.4f", best[1], best[0])
    return best[1], best[2]


def fit_baselines(data: DomainData, text_vectors: Array | None, clock: str) -> dict[str, Scorer]:
    """Every baseline that the data allows, by name.

    Args:
        data: of the target.
        text_vectors: float32 [n_items + 1, W] whitened text vectors, or None.
        clock: "real", or "order" where timestamps only order; then there is no recent popularity.
    """
    validation = data.holdout("validation")
    found: dict[str, Scorer] = {"popularity": Popularity.all_time(data)}
    if clock == "real":
        found["recent popularity"] = best_on_validation(
            [
                (f"recent popularity, half-life {share}", partial(Popularity.recent, data, share))
                for share in (0.1, 0.03, 0.3)
            ],
            validation,
            data.n_items,
        )[1]
    found["item-kNN"] = best_on_validation(
        [
            (f"item-kNN, decay {d}, shrink {s}", partial(ItemNeighbours.fit, data, d, s))
            for d in (0.8, 1.0)
            for s in (10.0, 0.0)
        ],
        validation,
        data.n_items,
    )[1]
    if data.n_items <= EASE_ITEMS:
        found["EASE"] = best_on_validation(
            [(f"EASE, ridge {ridge}", partial(Ease.fit, data, ridge)) for ridge in (100.0, 10.0, 1000.0)],
            validation,
            data.n_items,
        )[1]
    else:
        log.info("EASE is left out: %s items, and its matrix is made for %s at most", data.n_items, EASE_ITEMS)
    if text_vectors is not None and bool(text_vectors.any()):
        unit = unit_rows(text_vectors)
        found["content-kNN"] = best_on_validation(
            [(f"content-kNN, decay {d}", partial(ContentNeighbours, unit, d)) for d in (0.8, 0.6, 0.95)],
            validation,
            data.n_items,
        )[1]
    return found
