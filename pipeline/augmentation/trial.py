"""The trial: the same fine-tuning with and without more sequences, judged user by user on held-out rows.

Every arm takes exactly as many steps on as many sequences: real ones, a share of the arm's own, and for the rest real
ones again. The arm "none" has only real ones. The share is chosen by validation: each half of the users is judged with
the share that was best for the other half, so that no figure is of users who chose.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pipeline.augmentation.rows import Rows, joined, mixed
from pipeline.data.sequences import Array
from pipeline.data.training_set import DomainData, Holdout
from pipeline.evaluation.metrics import ndcg
from pipeline.evaluation.ranking import rank_holdout
from pipeline.models.inherit import adapted
from pipeline.models.recommender import SequentialRecommender
from pipeline.training.domains import Domain
from pipeline.training.loop import fit
from pipeline.training.next_item import NextItem
from pipeline.training.plan import Plan
from pipeline.training.randomness import generator, seed_torch
from pipeline.training.scoring import ModelScorer, Validation

log = logging.getLogger(__name__)

NONE, GAN = "none", "gan"
CUTS = (0, 1, 5, 10)
Check = Callable[[], None]


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


@dataclass(frozen=True)
class Training:
    """How every arm is trained.

    Attributes:
        plan: with `epochs` that are all taken: patience is not used.
        full_softmax_items, sampled_items, validation_users: as in fine-tuning.
        dropout, id_dropout: of the model.
    """

    plan: Plan
    full_softmax_items: int
    sampled_items: int
    validation_users: int
    dropout: float
    id_dropout: float


@dataclass(frozen=True)
class ArmFigures:
    """One arm at one share: NDCG@10 of every row of every part, and the steps that were taken."""

    ndcg: dict[str, Array]
    steps: int


def parts_of(data: DomainData, split: str, tail: Array, limit: int, seed: int) -> list[Part]:
    """The parts of a split.

    A user with k interactions is one whose history is cut to the last k; users who have fewer are not among them. Tail
    items are told by `tail`, bool [n_items + 1].
    """
    holdout = data.holdout(split)
    every = np.arange(len(holdout))
    if len(every) > limit:
        every = np.sort(generator(seed, "parts", data.name).choice(every, limit, replace=False))
    lengths = holdout.history_lengths[every]
    parts = []
    for k in CUTS:
        rows = every[lengths >= k]
        parts.append(Part(f"users with {k} interactions", _cut(holdout, rows, k), rows, thin=True))
    in_tail = tail[holdout.item_index[every]]
    for name, rows, thin in (
        ("tail items", every[in_tail], True),
        ("all users", every, False),
        ("popular items", every[~in_tail], False),
    ):
        parts.append(Part(name, _cut(holdout, rows, None), rows, thin))
    return [part for part in parts if len(part.rows)]


def judged(model: SequentialRecommender, domain: Domain, parts: Sequence[Part]) -> dict[str, Array]:
    """NDCG@10, seen items masked, of every row of every part."""
    scorer = ModelScorer(model, domain)
    n_items = domain.data.n_items
    return {part.name: ndcg(rank_holdout(scorer, part.holdout, n_items).masked, 10) for part in parts}


def train_arm(
    start: SequentialRecommender, domain: Domain, rows: Rows, how: Training, scratch: Path, check: Check
) -> tuple[SequentialRecommender, int]:
    """Fine-tune `start` on the real sequences and `rows`; the best epoch's model, and the steps taken."""
    seed_torch(how.plan.seed, how.plan.name, "weights")
    model = adapted(start, domain.shape, how.dropout, how.id_dropout)
    more, training = mixed(domain, rows)
    validation = Validation([domain], how.validation_users, how.plan.seed)

    def validate(now: SequentialRecommender) -> float | None:
        check()
        return validation(now)

    loss = NextItem([more], how.full_softmax_items, how.sampled_items)
    plan = replace(how.plan, patience=how.plan.epochs, judge_start=True)
    history = fit(model, [training], loss, validate, plan, scratch)
    return model, history[-1]["step"]


def run_trial(
    start: SequentialRecommender,
    domain: Domain,
    arms: Mapping[str, Rows],
    again: Rows,
    shares: Sequence[float],
    parts: Sequence[Part],
    how: Training,
    scratch: Path,
    check: Check,
) -> dict[str, dict[float, ArmFigures]]:
    """Train and judge every arm at every share.

    Args:
        arms: sequences by name, for the largest share; a smaller one takes the first of them.
        again: real sequences once more, as many.
        shares: of the arm's own sequences beside the real ones.

    Returns:
        arm -> share -> figures; the arm "none" has share 0 only.
    """
    found: dict[str, dict[float, ArmFigures]] = {}
    for name, rows in ((NONE, again), *arms.items()):
        for share in (0.0,) if name == NONE else shares:
            own = round(len(again) * share / max(shares))
            sequences = again if name == NONE else joined(rows.head(own), again.head(len(again) - own))
            folder = scratch / f"{name}-{share:g}".replace(" ", "-")
            model, steps = train_arm(start, domain, sequences, how, folder, check)
            figures = judged(model, domain, parts)
            found.setdefault(name, {})[share] = ArmFigures(figures, steps)
            log.info("%s: arm %s, share %g, %d steps", how.plan.name, name, share, steps)
    return found


def best_share(arm: Mapping[float, ArmFigures], parts: Sequence[Part], chooses: Mapping[str, Array]) -> float:
    """The share with the highest mean over thin parts among the rows that `chooses` (bool, by part) names."""

    def value(share: float) -> float:
        means = [arm[share].ndcg[p.name][chooses[p.name]] for p in parts if p.thin]
        return float(np.mean([mean.mean() for mean in means if len(mean)] or [0.0]))

    return max(arm, key=lambda share: (value(share), -share))


def cross_fitted(arm: Mapping[float, ArmFigures], parts: Sequence[Part], seed: int) -> dict[str, Array]:
    """NDCG@10 by part, each half of the rows at the share that the other half chose."""
    last = max((int(part.rows.max()) for part in parts), default=-1)
    first_half = generator(seed, "halves").random(last + 1) < 0.5
    figures = {part.name: np.zeros(len(part.rows)) for part in parts}
    for side in (True, False):
        judges = {part.name: first_half[part.rows] == side for part in parts}
        share = best_share(arm, parts, {name: ~rows for name, rows in judges.items()})
        for name, rows in judges.items():
            figures[name][rows] = arm[share].ndcg[name][rows]
    return figures


def from_scratch(
    like: SequentialRecommender, domain: Domain, rows: Rows | None, how: Training, scratch: Path, check: Check
) -> SequentialRecommender:
    """A recommender of random weights, trained on `rows` alone; None: on the real sequences."""
    seed_torch(how.plan.seed, how.plan.name, "weights")
    spec = replace(like.spec, domains=(domain.shape,), dropout=how.dropout, id_dropout=how.id_dropout)
    model = SequentialRecommender(spec)
    validation = Validation([domain], how.validation_users, how.plan.seed)
    more, training = mixed(domain, rows)
    if rows is not None:  # the made ones alone: no real user has a sequence
        offsets = np.concatenate([np.zeros(domain.data.n_users, dtype=np.int64), rows.offsets])
        training = replace(training, offsets=offsets, items=rows.items.astype(training.items.dtype))

    def validate(now: SequentialRecommender) -> float | None:
        check()
        return validation(now)

    loss = NextItem([more], how.full_softmax_items, how.sampled_items)
    fit(model, [training], loss, validate, replace(how.plan, patience=how.plan.epochs), scratch)
    return model


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
