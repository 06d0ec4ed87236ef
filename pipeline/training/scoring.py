"""A torch model behind the evaluator's `Scorer`, and the validation that picks the best epoch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pipeline.data.sequences import Array
from pipeline.data.training_set import Holdout
from pipeline.evaluation.kept_places import lifted
from pipeline.evaluation.metrics import ndcg
from pipeline.evaluation.ranking import Requests, rank_holdout
from pipeline.models.padding import left_padded
from pipeline.models.recommender import SequentialRecommender
from pipeline.training.domains import Domain
from pipeline.training.moments import of_requests
from pipeline.training.randomness import generator

ENCODE_ROWS = 512  # users whose histories are encoded at a time


class ModelScorer:
    """Scores of a model for one domain; the catalogue is encoded once."""

    def __init__(self, model: SequentialRecommender, domain: Domain) -> None:
        self._model = model.eval()
        self._domain = domain
        self._is_new = ~domain.catalogue.trained.cpu().numpy()
        with torch.inference_mode():
            self._vectors = model.item_vectors(domain.name, domain.catalogue)  # (n_items + 1, D)

    @torch.inference_mode()
    def scores(self, requests: Requests) -> Array:
        """float32 [B, n_items + 1]."""
        scores: Array = (self.states(requests) @ self._vectors.T).cpu().numpy()
        return lifted(scores, self._is_new, requests.histories, self._model.spec.kept_places)

    @torch.inference_mode()
    def states(self, requests: Requests) -> Tensor:
        """float32 [B, D], after each history."""
        order = np.argsort([len(history) for history in requests.histories], kind="stable")
        states = torch.empty(len(requests), self._vectors.shape[1], device=self._vectors.device)
        for start in range(0, len(order), ENCODE_ROWS):
            rows = order[start : start + ENCODE_ROWS]
            history = left_padded([requests.histories[row] for row in rows], self._model.spec.max_length)
            users = torch.from_numpy(requests.users[rows].astype(np.int64)).to(states.device)
            spec, moments = self._model.spec, None
            if spec.reads_moments:
                moments = of_requests(self._domain.data, requests, rows, spec.max_length, states.device)
            encoded = self._model.states(
                self._domain.name,
                self._vectors,
                torch.from_numpy(history).to(states.device),
                self._domain.profile_features[users],
                self._domain.profile_attributes[users],
                moments,
                last=True,
            )
            states[torch.from_numpy(rows).to(states.device)] = encoded[:, -1]
        return states


def validation_rows(domain: Domain, limit: int, seed: int) -> tuple[Holdout, Array]:
    """The validation split, and which of its rows are ranked: all, or `limit` of them, drawn once and for all."""
    holdout = domain.data.holdout("validation")
    rows = np.arange(len(holdout))
    if len(rows) > limit:  # epochs are compared on the same rows
        rows = np.sort(generator(seed, "validation", domain.name).choice(rows, limit, replace=False))
    return holdout, rows


class Validation:
    """Masked NDCG@10 on validation rows, by full ranking; the mean over domains."""

    def __init__(self, domains: Sequence[Domain], limit: int, seed: int) -> None:
        self._held = []
        for domain in domains:
            holdout, rows = validation_rows(domain, limit, seed)
            if len(rows):
                self._held.append((domain, holdout, rows))

    @property
    def n_rows(self) -> int:
        """Rows that are ranked; 0 means that nothing can be validated."""
        return sum(len(rows) for _, _, rows in self._held)

    def __call__(self, model: SequentialRecommender) -> float | None:
        """The figure to stop by; None where there are no rows."""
        values = [float(column.mean()) for column in self.per_user(model)]
        return float(np.mean(values)) if values else None

    def per_user(self, model: SequentialRecommender) -> list[Array]:
        """The figure of every row, float64 [rows] a domain."""
        ranked = (
            rank_holdout(ModelScorer(model, domain), holdout, domain.data.n_items, rows)
            for domain, holdout, rows in self._held
        )
        return [ndcg(ranks.masked, 10) for ranks in ranked]
