"""New items among the others: how loud content alone may be, set on validation rows.

An item outside of training has no ID vector, and its features are of a range that training never showed. Left as it
is, it is hardly ever recommended, however well its content fits. A calibrated model reads it as

    content  +  mean features of the trained items  +  δ · m,      m = s̄ / ‖s̄‖²,  s̄ the mean state of validation users

so that its score rises by δ for the average user: the constant that calibrates seen and unseen classes (Chao et al.,
arXiv 1605.04253), as a part of its vector. So it holds in every exported graph, for items of the catalogue and for
those that are listed later. δ is the largest for which items with training interactions lose no more than an agreed
share of their NDCG@10. Only where few items have any, and users as a whole would lose by new ones made quieter than
they were trained, it is 0.

Two options beside it. The first places of a list may be kept for trained items (pipeline/evaluation/kept_places.py):
what a new item then costs the others is little, and more of them are shown for the same loss. And the likeness in
content, where the model has it (pipeline/models/similarity.py), may count more for new items, which have nothing else:
by the factor with which most of the validation rows that want a new item find it among the first ten.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from pipeline.data.sequences import Array
from pipeline.evaluation.metrics import hit_rate, ndcg
from pipeline.evaluation.ranking import requests_of
from pipeline.models.recommender import SequentialRecommender
from pipeline.training.domains import Domain
from pipeline.training.scoring import ModelScorer, validation_rows
from pipeline.transfer.contest import Contest, Rows
from pipeline.transfer.params import TOP

SHARE = 10  # where every item has been trained on, one in so many is read as if it had not
WIDEST = 16.0  # logits: δ lies between minus and plus this
HALVINGS = 16
LIKENESSES = (1.0, 1.5, 2.0, 3.0, 4.0)
ENOUGH = 100  # rows that want a new item, to choose by


@dataclass(frozen=True)
class Newcomers:
    """What a calibration found, on validation rows.

    Attributes:
        delta: δ, in logits.
        warm_alone: NDCG@10 of trained items with no new item beside them.
        warm: with the new items.
        cold: NDCG@10 of new items, None without a row that has one.
        n_warm, n_cold: rows.
        likeness: the factor on likeness in content.
    """

    delta: float
    warm_alone: float
    warm: float
    cold: float | None
    n_warm: int
    n_cold: int
    likeness: float = 1.0

    @property
    def sentence(self) -> str:
        """For people."""
        loss = 100 * (1 - self.warm / self.warm_alone) if self.warm_alone else 0.0
        cost = f"they cost the others {loss:.1f} % of NDCG@10 ({self.n_warm:,} validation users)"
        gain = "" if self.cold is None else f" and reach {self.cold:.4f} ({self.n_cold:,})"
        alike = "" if self.likeness == 1 else f", likeness ×{self.likeness:g}"
        return f"new items {self.delta:+.2f}{alike}: {cost}{gain}"

    @property
    def figures(self) -> dict[str, float]:
        """For tracking."""
        told = {"newcomer_delta": self.delta, "valid_warm_alone": self.warm_alone, "valid_warm": self.warm}
        told |= {"newcomer_likeness": self.likeness} if self.likeness != 1 else {}
        return told if self.cold is None else told | {"valid_cold": self.cold}


def calibrated(
    model: SequentialRecommender, domain: Domain, loss: float, limit: int, seed: int, places: int = TOP
) -> tuple[SequentialRecommender, Newcomers | None]:
    """The same model, reading new items as above, and what that costs and gives.

    Args:
        model: not calibrated yet; stays as it is.
        domain: opened for the model.
        loss: share of NDCG@10 on trained items that may be given up, 0 to 1.
        limit, seed: of the validation rows, as in training.
        places: of the first ten, the last so many may be taken by new items.

    Returns:
        the model itself and None where nothing can be measured: no validation row has an item with training
        interactions, or the catalogue has no two items.
    """
    trained = domain.catalogue.trained.cpu().numpy()
    holdout, chosen = validation_rows(domain, limit, seed)
    if not trained[holdout.item_index[chosen]].any() or len(trained) < 3:
        return model, None
    reads = _with_mean_features(model, domain)
    new = np.flatnonzero(~trained)[1:]
    new = new if len(new) else np.flatnonzero(trained)[::SHARE]
    requests = requests_of(holdout, chosen)
    states = ModelScorer(reads, domain).states(requests)  # (n, S)
    learned = states[:, : model.spec.width]  # likeness in content, behind it, is as it is
    mean = learned.mean(0)
    direction = mean / mean.square().sum().clamp(min=1e-12)
    slope = (learned @ direction).cpu().numpy()
    rows = Rows(states, holdout.item_index[chosen], requests.histories, trained)
    unknown = replace(domain.catalogue, trained=torch.zeros_like(domain.catalogue.trained))
    with torch.inference_mode():
        as_trained = reads.item_vectors(domain.name, domain.catalogue)  # (n_items + 1, S)
    best_trained = rows.best(as_trained, np.flatnonzero(trained))
    is_warm, kept = ~rows.is_new, TOP - places
    factors = LIKENESSES if model.spec.similarity and (~is_warm).sum() >= ENOUGH else LIKENESSES[:1]
    found: list[tuple[float, Newcomers]] = []
    for likeness in factors:
        reads.spec = replace(reads.spec, newcomer_likeness=likeness)
        with torch.inference_mode():
            as_new = reads.item_vectors(domain.name, unknown)  # (n_items + 1, S)
        contest = Contest(best_trained, rows.best(as_new, new), rows.own(as_trained, as_new), rows.is_new, kept)
        alone = float(ndcg(1 + contest.trained_above(0 * slope)[is_warm], TOP).mean())
        delta = _delta(contest, slope, (1 - loss) * alone)
        ranks = contest.ranks(delta * slope)
        warm = float(ndcg(ranks[is_warm], TOP).mean())
        cold, shown = (
            float(figure(ranks[~is_warm], TOP).mean()) if not is_warm.all() else None for figure in (ndcg, hit_rate)
        )
        told = Newcomers(delta, alone, warm, cold, int(is_warm.sum()), int((~is_warm).sum()), likeness)
        found.append((shown or 0.0, told))
    _, told = max(found, key=lambda one: (one[0], -one[1].likeness))
    reads.spec = replace(reads.spec, newcomer_likeness=told.likeness, kept_places=kept)
    assert reads.items.newcomer is not None
    reads.items.newcomer += told.delta * direction.to(reads.items.newcomer.device)
    return reads, told


def _delta(contest: Contest, slope: Any, floor: float) -> float:
    """The largest δ that leaves trained items a mean NDCG@10 of `floor`; 0 where less than 0 harms users as a whole."""

    def ndcgs(delta: float) -> Array:
        return ndcg(contest.ranks(delta * slope), TOP)

    found = _largest(lambda delta: float(ndcgs(delta)[~contest.is_new].mean()) >= floor)
    return 0.0 if found < 0 and ndcgs(found).mean() < ndcgs(0.0).mean() else found


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
