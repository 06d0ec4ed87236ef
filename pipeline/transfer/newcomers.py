"""New items among the others: how loud content alone may be, set on validation rows.

An item outside of training has no ID vector, and its features are of a range that training never showed. Left as it
is, it is hardly ever recommended, however well its content fits. A calibrated model reads it as

    content  +  mean features of the trained items  +  δ · m,      m = s̄ / ‖s̄‖²,  s̄ the mean state of validation users

so that its score rises by δ for the average user: the constant that calibrates seen and unseen classes (Chao et al.,
arXiv 1605.04253), as a part of its vector. So it holds in every exported graph, for items of the catalogue and for
those that are listed later. δ is the largest for which items with training interactions lose no more than an agreed
share of their NDCG@10.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from pipeline.data.sequences import Array
from pipeline.evaluation.metrics import ndcg
from pipeline.evaluation.ranking import requests_of
from pipeline.models.recommender import SequentialRecommender
from pipeline.training.domains import Domain
from pipeline.training.scoring import ModelScorer, validation_rows

TOP = 10  # of the metric: what ranks lower counts nothing
SHARE = 10  # where every item has been trained on, one in so many is read as if it had not
WIDEST = 16.0  # logits: δ lies between minus and plus this
HALVINGS = 16
ROWS_AT_ONCE = 128


@dataclass(frozen=True)
class Newcomers:
    """What a calibration found, on validation rows.

    Attributes:
        delta: δ, in logits.
        warm_alone: NDCG@10 of trained items with no new item beside them.
        warm: with the new items.
        cold: NDCG@10 of new items, None without a row that has one.
        n_warm, n_cold: rows.
    """

    delta: float
    warm_alone: float
    warm: float
    cold: float | None
    n_warm: int
    n_cold: int

    @property
    def sentence(self) -> str:
        """For people."""
        loss = 100 * (1 - self.warm / self.warm_alone) if self.warm_alone else 0.0
        cost = f"they cost the others {loss:.1f} % of NDCG@10 ({self.n_warm:,} validation users)"
        gain = "" if self.cold is None else f" and reach {self.cold:.4f} ({self.n_cold:,})"
        return f"new items {self.delta:+.2f}: {cost}{gain}"

    @property
    def figures(self) -> dict[str, float]:
        """For tracking."""
        told = {"newcomer_delta": self.delta, "valid_warm_alone": self.warm_alone, "valid_warm": self.warm}
        return told if self.cold is None else told | {"valid_cold": self.cold}


def calibrated(
    model: SequentialRecommender, domain: Domain, loss: float, limit: int, seed: int
) -> tuple[SequentialRecommender, Newcomers | None]:
    """The same model, reading new items as above, and what that costs and gives.

    Args:
        model: not calibrated yet; stays as it is.
        domain: opened for the model.
        loss: share of NDCG@10 on trained items that may be given up, 0 to 1.
        limit, seed: of the validation rows, as in training.

    Returns:
        the model itself and None where nothing can be measured: no validation row has an item with training
        interactions, or the catalogue has no two items.
    """
    trained = domain.catalogue.trained.cpu().numpy()
    holdout, rows = validation_rows(domain, limit, seed)
    if not trained[holdout.item_index[rows]].any() or len(trained) < 3:
        return model, None
    reads = _with_mean_features(model, domain)
    unknown = replace(domain.catalogue, trained=torch.zeros_like(domain.catalogue.trained))
    with torch.inference_mode():
        as_trained = reads.item_vectors(domain.name, domain.catalogue)  # (n_items + 1, S)
        as_new = reads.item_vectors(domain.name, unknown)  # (n_items + 1, S)
    new = np.flatnonzero(~trained)[1:]
    new = new if len(new) else np.flatnonzero(trained)[::SHARE]
    parts, requests = [], requests_of(holdout, rows)
    states = ModelScorer(reads, domain).states(requests)  # (n, S)
    learned = states[:, : model.spec.width]  # likeness in content, behind it, is as it is
    mean = learned.mean(0)
    direction = mean / mean.square().sum().clamp(min=1e-12)
    wanted = holdout.item_index[rows]
    for start in range(0, len(rows), ROWS_AT_ONCE):
        span = slice(start, start + ROWS_AT_ONCE)
        seen = requests.histories[span]
        parts.append(_contest(states[span], as_trained, as_new, new, trained, wanted[span], seen))
    contest = _Contest(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    slope = (learned @ direction).cpu().numpy()
    is_warm = trained[wanted]

    def warm(delta: float) -> float:
        return float(ndcg(contest.ranks(delta * slope)[is_warm], TOP).mean())

    alone = float(ndcg(1 + contest.trained_above(0 * slope)[is_warm], TOP).mean())
    delta = _largest(lambda value: warm(value) >= (1 - loss) * alone)
    assert reads.items.newcomer is not None
    reads.items.newcomer += delta * direction.to(reads.items.newcomer.device)
    ranks = contest.ranks(delta * slope)
    cold = float(ndcg(ranks[~is_warm], TOP).mean()) if not is_warm.all() else None
    return reads, Newcomers(delta, alone, warm(delta), cold, int(is_warm.sum()), int((~is_warm).sum()))


@dataclass(frozen=True)
class _Contest:
    """The best trained and the best new items of every row; a constant for all new items changes no order in either.

    Attributes:
        trained, new: float [n, TOP], scores, best first; seen items and the wanted one left out.
        own: float [n], of the wanted item.
        is_new: bool [n], it is one.
    """

    trained: Array
    new: Array
    own: Array
    is_new: Array

    def trained_above(self, raised: Array) -> Array:
        """int [n]: trained items that beat the wanted one (a tie does) when new ones are `raised` [n]; at most TOP."""
        own = self.own + np.where(self.is_new, raised, 0.0)
        return (self.trained >= own[:, None]).sum(1)

    def ranks(self, raised: Array) -> Array:
        """int [n]: exact up to TOP, larger below."""
        new = self.new + np.where(self.is_new, 0.0, raised)[:, None]
        return 1 + self.trained_above(raised) + (new >= self.own[:, None]).sum(1)


def _contest(
    states: Tensor, as_trained: Tensor, as_new: Tensor, new: Array, trained: Array, wanted: Array, seen: list[Array]
) -> tuple[Array, Array, Array, Array]:
    """The columns of `_Contest` for a block of rows."""
    usual, fresh = (states @ as_trained.T).cpu().numpy(), (states @ as_new.T).cpu().numpy()
    every = np.arange(len(wanted))
    is_new = ~trained[wanted]
    own = np.where(is_new, fresh[every, wanted], usual[every, wanted])
    usual[:, ~trained] = -np.inf
    for scores in (usual, fresh):
        scores[every, wanted] = -np.inf
        for row, items in enumerate(seen):
            scores[row, items] = -np.inf
    return _best(usual), _best(fresh[:, new]), own, is_new


def _best(scores: Array) -> Array:
    """float [n, TOP], best first, -inf where fewer are left."""
    short = max(0, TOP - scores.shape[1])
    scores = np.pad(scores, ((0, 0), (0, short)), constant_values=-np.inf)
    return -np.sort(-np.partition(scores, -TOP, axis=1)[:, -TOP:], axis=1)


def _largest(holds: Callable[[float], bool]) -> float:
    """The largest number within `WIDEST` for which a condition that ends holding holds, by halving."""
    low, high = -WIDEST, WIDEST
    if holds(high):
        return high
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


@torch.no_grad()
def _with_mean_features(model: SequentialRecommender, domain: Domain) -> SequentialRecommender:
    """A copy that reads every new item with the mean features of the trained ones."""
    copy = SequentialRecommender(replace(model.spec, newcomer=True)).to(domain.catalogue.device)
    copy.load_state_dict(model.state_dict(), strict=False)
    newcomer, trained = copy.items.newcomer, domain.catalogue.trained
    assert newcomer is not None
    if copy.items.features.in_features:
        newcomer += copy.items.features(domain.catalogue.features[trained].mean(0))
    return copy.eval()
