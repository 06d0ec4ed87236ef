"""Rank any served model on today's users and today's catalogue, also a champion of an earlier run.

    table = per_user_metrics(Path("…/served"), load_domain(training, "harbour"))

A champion was exported with the catalogue of its day. Histories are translated by item id; an item it does not know
cannot be recommended by it, so it stands below all others, and a tie counts against.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from pipeline.compression.served_model import ServedModel
from pipeline.data.sequences import Array
from pipeline.data.training_set import DomainData
from pipeline.evaluation.kept_places import lifted
from pipeline.evaluation.metrics import hit_rate, ndcg
from pipeline.evaluation.ranking import Requests, rank_holdout

log = logging.getLogger(__name__)


class ServedScorer:
    """A served model behind the evaluator's `Scorer`, on the catalogue of `data`."""

    def __init__(self, served: ServedModel, data: DomainData) -> None:
        self._served, self._data = served, data
        known = [served.item_index.get(item, 0) for item in data.item_ids]
        self._theirs = np.array(known, dtype=np.int64)  # (n_items + 1,): the model's index of today's items, or 0
        self._theirs[0] = 0
        missing = [name for name in served.profile_features if name not in data.profile_feature_names]
        if missing:
            log.warning("profile features %s are no longer computed; the model reads zeros", ", ".join(missing))
        self._profile = np.zeros((data.n_users, len(served.profile_features)), dtype=np.float32)
        for column, name in enumerate(served.profile_features):
            if name not in missing:
                self._profile[:, column] = data.profile_features[:, data.profile_feature_names.index(name)]

    @property
    def n_unknown(self) -> int:
        """Items of today's catalogue that the model does not know."""
        return int((self._theirs[1:] == 0).sum())

    def request(self, user: int, history: Array) -> tuple[Any, Array, list[str]]:
        """What the model is asked for one user: its own item indices, float32 [1, P] profile, attributes."""
        known = self._theirs[history]
        return known[known > 0].tolist(), self._profile[[user]], self._data.user_attributes[user]

    def scores(self, requests: Requests) -> Array:
        """float32 [B, n_items + 1] over today's catalogue, -inf for items the model does not know."""
        histories = [self._theirs[history] for history in requests.histories]
        scores = self._served.scores(
            [history[history > 0] for history in histories],
            self._profile[requests.users],
            [self._data.user_attributes[user] for user in requests.users],
        )
        scores = scores[:, self._theirs]  # column 0 is -inf, and so is what is unknown
        kept = self._served.kept_places
        return lifted(scores, self._served.is_new[self._theirs], requests.histories, kept) if kept else scores


def per_user_metrics(served_folder: Path, data: DomainData, split: str = "test") -> pl.DataFrame:
    """Rank a served model on a split, seen items masked.

    Args:
        served_folder: what `prune` wrote, of any run.
        data: the target's training set of this run.
        split: "test" or "validation".

    Returns:
        user_index, item_index, rank, ndcg10, hr10; a row per user of the split, users ascending.

    Raises:
        BadConfiguration: the folder is not a served model's.
    """
    scorer = ServedScorer(ServedModel(served_folder), data)
    if scorer.n_unknown:
        log.info("%d of %d items are unknown to the model and rank last", scorer.n_unknown, data.n_items)
    holdout = data.holdout(split)
    ranks = rank_holdout(scorer, holdout, data.n_items)
    return pl.DataFrame(
        {
            "user_index": holdout.user_index,
            "item_index": holdout.item_index,
            "rank": ranks.masked,
            "ndcg10": ndcg(ranks.masked, 10),
            "hr10": hit_rate(ranks.masked, 10),
        }
    )
