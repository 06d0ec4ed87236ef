"""The simple rankers that every model has to beat, fitted on the training part alone.

Each is a `Scorer`; each setting that matters is chosen on the validation rows by masked NDCG@10, as ours are.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import partial

import numpy as np
import scipy.sparse as sp

from pipeline.data.sequences import Array
from pipeline.data.training_set import DomainData, Holdout
from pipeline.evaluation.interactions import history_matrix, seen_matrix
from pipeline.evaluation.metrics import ndcg
from pipeline.evaluation.ranking import Requests, Scorer, rank_holdout
from pipeline.models.unit_rows import unit_rows

log = logging.getLogger(__name__)
Candidate = tuple[str, Callable[[], Scorer]]

FACTORISED_ROWS = 1_000_000  # three settings of ALS and BPR each take about five CPU-minutes there
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


@dataclass(frozen=True)
class ItemNeighbours:
    """Item-kNN: cosine of the items' user sets, shrunk where few users are shared (Sarwar et al. 2001)."""

    similarity: sp.csr_array  # float64 [n_items + 1, n_items + 1], zero diagonal
    decay: float

    def scores(self, requests: Requests) -> Array:
        """float64 [B, n_items + 1]."""
        return (history_matrix(requests, self.similarity.shape[0], self.decay) @ self.similarity).toarray()

    @classmethod
    def fit(cls, data: DomainData, decay: float, shrink: float) -> ItemNeighbours:
        """From the binary user × item matrix of the training part."""
        seen = seen_matrix(data)
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
        history = history_matrix(requests, len(self.weights), 1.0).astype(np.float32)
        return np.asarray(history @ self.weights)

    @classmethod
    def fit(cls, data: DomainData, ridge: float) -> Ease:
        """B = I - P / diag(P), P the inverse of the ridged Gram matrix of users who took both."""
        seen = seen_matrix(data)
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
        history = history_matrix(requests, len(self.vectors), self.decay)
        return np.asarray(history @ self.vectors, dtype=np.float32) @ self.vectors.T


def best_on_validation(candidates: Iterable[Candidate], validation: Holdout, n_items: int) -> tuple[str, Scorer]:
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


def fit_baselines(
    data: DomainData, text_vectors: Array | None, clock: str, wanted: Collection[str], seed: int
) -> dict[str, Scorer]:
    """Every wanted baseline that the data allows, by name; popularity always.

    Args:
        data: of the target.
        text_vectors: float32 [n_items + 1, W] whitened text vectors, or None.
        clock: "real", or "order" where timestamps only order; then there is no recent popularity.
        wanted: their names.
        seed: of the factorisations' start and draws.
    """
    validation = data.holdout("validation")
    found: dict[str, Scorer] = {"popularity": Popularity.all_time(data)}
    for name, candidates in _candidates(data, text_vectors, clock, seed).items():
        if name in wanted:
            found[name] = best_on_validation(candidates, validation, data.n_items)[1]
    return found


def _candidates(data: DomainData, text_vectors: Array | None, clock: str, seed: int) -> dict[str, list[Candidate]]:
    """Settings to choose from, by baseline; nothing is fitted yet."""
    found: dict[str, list[Candidate]] = {}
    if clock == "real":
        found["recent popularity"] = [
            (f"recent popularity, half-life {share}", partial(Popularity.recent, data, share))
            for share in (0.1, 0.03, 0.3)
        ]
    found["item-kNN"] = [
        (f"item-kNN, decay {d}, shrink {s}", partial(ItemNeighbours.fit, data, d, s))
        for d in (0.8, 1.0)
        for s in (10.0, 0.0)
    ]
    if data.n_items <= EASE_ITEMS:
        found["EASE"] = [(f"EASE, ridge {ridge}", partial(Ease.fit, data, ridge)) for ridge in (100.0, 10.0, 1000.0)]
    else:
        log.info("EASE is left out: %s items, and its matrix is made for %s at most", data.n_items, EASE_ITEMS)
    found |= _factorised(data, seed)
    if text_vectors is not None and bool(text_vectors.any()):
        unit = unit_rows(text_vectors)
        found["content-kNN"] = [
            (f"content-kNN, decay {d}", partial(ContentNeighbours, unit, d)) for d in (0.8, 0.6, 0.95)
        ]
    return found


def _factorised(data: DomainData, seed: int) -> dict[str, list[Candidate]]:
    if len(data.items) > FACTORISED_ROWS:
        log.info("ALS and BPR are left out: %s training interactions, over %s", len(data.items), FACTORISED_ROWS)
        return {}
    try:
        from pipeline.evaluation.factorisations import Als, Bpr
    except ImportError as fault:  # `implicit` brings no OpenMP of its own, and torch not everywhere
        log.warning("ALS and BPR are left out: %s; Debian's package libgomp1 has OpenMP's library", fault)
        return {}
    return {
        "ALS": [(f"ALS, alpha {alpha}", partial(Als.fit, data, alpha, seed)) for alpha in (40.0, 10.0, 1.0)],
        "BPR": [(f"BPR, rate {rate}", partial(Bpr.fit, data, rate, seed)) for rate in (0.2, 0.05, 0.02)],
    }
