"""Matrix factorisation by `implicit`, on one thread and from a seed: the same factors every time.

ALS (Hu, Koren and Volinsky 2008) folds a history in by one least-squares step, so that it sees what a user did after
training and serves users it never met. BPR (Rendle et al., arXiv 1205.2618) knows the users of its training only: all
others get its item biases.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch  # noqa: F401  # brings OpenMP's library along, which `implicit` expects of the system
from implicit.cpu.als import AlternatingLeastSquares
from implicit.cpu.bpr import BayesianPersonalizedRanking
from implicit.recommender_base import ModelFitError
from threadpoolctl import threadpool_limits

from pipeline.data.sequences import Array
from pipeline.data.training_set import DomainData
from pipeline.evaluation.interactions import history_matrix, seen_matrix
from pipeline.evaluation.ranking import Requests

log = logging.getLogger(__name__)
FACTORS = 128
ALS_ITERATIONS, ALS_RIDGE = 15, 1.0
BPR_EPOCHS, BPR_RIDGE = 100, 0.01


@dataclass(frozen=True)
class Als:
    """Weighted least squares over all cells of the user × item matrix."""

    model: AlternatingLeastSquares

    def scores(self, requests: Requests) -> Array:
        """float32 [B, n_items + 1]."""
        items: Array = self.model.item_factors
        history = sp.csr_matrix(history_matrix(requests, len(items), 1.0))
        history.data[:] = 1.0  # a repeated item was summed
        with threadpool_limits(1, "blas"):
            users = self.model.recalculate_user(np.arange(len(requests)), history)
            return np.asarray(users @ items.T)

    @classmethod
    def fit(cls, data: DomainData, alpha: float, seed: int) -> Als:
        """`alpha` is the weight of a taken item beside 1 for all others."""
        with threadpool_limits(1, "blas"):
            model = AlternatingLeastSquares(
                factors=FACTORS, alpha=alpha, regularization=ALS_RIDGE, iterations=ALS_ITERATIONS, num_threads=1,
                random_state=seed,
            )  # fmt: skip
            model.fit(sp.csr_matrix(seen_matrix(data)), show_progress=False)
        return cls(model)


@dataclass(frozen=True)
class Bpr:
    """Pairwise ranking: a taken item above a drawn one."""

    users: Array  # float32 [n_users, FACTORS + 1]; the last is 1, all others 0 where there was no training
    items: Array  # float32 [n_items + 1, FACTORS + 1]; the last is the item's bias

    def scores(self, requests: Requests) -> Array:
        """float32 [B, n_items + 1]."""
        with threadpool_limits(1, "blas"):
            return np.asarray(self.users[requests.users] @ self.items.T)

    @classmethod
    def fit(cls, data: DomainData, rate: float, seed: int) -> Bpr:
        """By `BPR_EPOCHS` passes of stochastic gradient steps of size `rate`, halved until they do not diverge."""
        seen = sp.csr_matrix(seen_matrix(data))
        model = BayesianPersonalizedRanking(
            factors=FACTORS, learning_rate=rate, regularization=BPR_RIDGE, iterations=BPR_EPOCHS, num_threads=1,
            random_state=seed,
        )  # fmt: skip
        try:
            model.fit(seen, show_progress=False)
        except ModelFitError:
            log.info("BPR diverged at rate %g, the next is %g", rate, rate / 2)
            return cls.fit(data, rate / 2, seed)
        items, trained = np.array(model.item_factors), seen.getnnz(axis=0) > 0
        items[~trained, -1] = items[trained, -1].min(initial=0.0)  # never taken: below all that were
        return cls(np.array(model.user_factors), items)
