"""The parts of held-out rows that are judged apart: users of whom little is known, tail items, and everybody else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.data.sequences import Array
from pipeline.data.training_set import DomainData, Holdout
from pipeline.evaluation.metrics import ndcg
from pipeline.evaluation.ranking import rank_holdout
from pipeline.models.recommender import SequentialRecommender
from pipeline.training.domains import Domain
from pipeline.training.randomness import generator
from pipeline.training.scoring import ModelScorer

ALL = "all users"
CUTS = (0, 1, 5, 10)


@dataclass(frozen=True)
class Part:
    """Some held-out rows that are judged together.

    Attributes:
        name: "users with 5 interactions", "tail items", …
        holdout: its own, histories cut where the part says so.
        rows: int64 [n], which rows of the split they are.
        thin: what augmentation is for; every part is guarded, these may win.
    """

    name: str
    holdout: Holdout
    rows: Array
    thin: bool


def parts_of(
    data: DomainData, split: str, tail: Array, limit: int, seed: int, cuts: Sequence[int] = CUTS
) -> list[Part]:
    """The parts of a split.

    A user with k interactions, k of `cuts`, is one whose history is cut to the last k; users who have fewer are not
    among them. Tail items are told by `tail`, bool [n_items + 1].
    """
    holdout = data.holdout(split)
    every = np.arange(len(holdout))
    if len(every) > limit:
        every = np.sort(generator(seed, "parts", data.name).choice(every, limit, replace=False))
    lengths = holdout.history_lengths[every]
    parts = []
    for k in cuts:
        rows = every[lengths >= k]
        parts.append(Part(f"users with {k} interactions", _cut(holdout, rows, k), rows, thin=True))
    in_tail = tail[holdout.item_index[every]]
    for name, rows, thin in (
        ("tail items", every[in_tail], True),
        (ALL, every, False),
        ("popular items", every[~in_tail], False),
    ):
        parts.append(Part(name, _cut(holdout, rows, None), rows, thin))
    return [part for part in parts if len(part.rows)]


def judged(model: SequentialRecommender, domain: Domain, parts: Sequence[Part]) -> dict[str, Array]:
    """NDCG@10, seen items masked, of every row of every part."""
    scorer = ModelScorer(model, domain)
    n_items = domain.data.n_items
    return {part.name: ndcg(rank_holdout(scorer, part.holdout, n_items).masked, 10) for part in parts}


def _cut(holdout: Holdout, rows: Array, last: int | None) -> Holdout:
    """Some rows of a holdout, of each history the last `last` interactions; None: all."""
    histories = [holdout.history(row) for row in rows]
    kept = [tuple(part[max(0, len(part) - last) :] if last is not None else part for part in h) for h in histories]
    lengths = [len(items) for items, _ in kept]
    return Holdout(
        split=holdout.split,
        user_index=holdout.user_index[rows],
        item_index=holdout.item_index[rows],
        timestamp=holdout.timestamp[rows],
        history_offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        history_items=np.concatenate([np.zeros(0, np.int32), *(items for items, _ in kept)]),
        history_times=np.concatenate([np.zeros(0, np.int64), *(times for _, times in kept)]),
        user_slice=holdout.user_slice[rows],
        item_slice=holdout.item_slice[rows],
        oracle_rank=None,
    )
