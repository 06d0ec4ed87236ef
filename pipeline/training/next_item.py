"""The task: every position predicts the next item among all items of its domain."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pipeline.models.recommender import SequentialRecommender
from pipeline.training.batches import Batch
from pipeline.training.domains import Domain
from pipeline.training.gbce import beta, blocked_gbce
from pipeline.training.losses import Candidates, full_candidates, sampled_candidates
from pipeline.training.moments import of_places
from pipeline.training.softmax import block_rows, blocked_cross_entropy

log = logging.getLogger(__name__)


class NextItem:
    """The dense causal loss of a batch, and the logits behind it."""

    def __init__(
        self, domains: Sequence[Domain], full_softmax_items: int, sampled_items: int, gbce: float | None = None
    ) -> None:
        """Args:
        domains: whose batches will come.
        full_softmax_items: catalogues up to this size are scored whole.
        sampled_items: uniform draws per batch for larger ones.
        gbce: the calibration of gBCE, which draws whatever the size; None is softmax.
        """
        self._domains = {domain.name: domain for domain in domains}
        self._full: dict[str, Candidates] = {}
        self._sampled_items, self._gbce = sampled_items, gbce
        for domain in domains:
            full = full_candidates(domain.catalogue.trained)
            if gbce is None and len(full.items) <= full_softmax_items:
                self._full[domain.name] = full
            how = f"softmax over a batch's own items and {sampled_items:,} draws, corrected"
            if gbce is not None:
                how = f"gBCE against {sampled_items:,} draws a batch, calibration {gbce:g}"
            if domain.name in self._full:
                rows = block_rows(len(full.items), domain.catalogue.device)
                how = f"full softmax, logits of {rows:,} positions at a time"
            n_trained = int(domain.catalogue.trained.sum())
            log.info("%s: %s of %s trained items", domain.name, how, f"{n_trained:,}")

    def __call__(self, model: SequentialRecommender, batch: Batch) -> Tensor:
        """The mean loss over the batch's targets, in nats."""
        candidates = self.candidates(batch)
        states, vectors = states_and_vectors(model, self._domains[batch.domain], batch, candidates)
        return self.loss_of(model, states, vectors, batch, candidates)

    def loss_of(
        self, model: SequentialRecommender, states: Tensor, vectors: Tensor, batch: Batch, candidates: Candidates
    ) -> Tensor:
        """The same of states [N, D] and vectors [m, D] that are known already; of several members, their mean."""
        positives = self.positives(batch, candidates)
        members = model.spec.members
        own = zip(states.chunk(members, 1), vectors.chunk(members, 1), strict=True)
        losses = [self._loss(state, vector, positives, batch, candidates) for state, vector in own]
        return torch.stack(losses).mean()

    def _loss(self, states: Tensor, vectors: Tensor, positives: Tensor, batch: Batch, candidates: Candidates) -> Tensor:
        if self._gbce is None or candidates.drawn is None:
            return blocked_cross_entropy(states, vectors, positives, candidates.log_weight)
        n_trained = int(self._domains[batch.domain].catalogue.trained.sum())
        power = beta(int(candidates.drawn.sum()), n_trained, self._gbce)
        return blocked_gbce(states, vectors, positives, candidates.drawn, power)

    def candidates(self, batch: Batch) -> Candidates:
        """What the batch is scored against."""
        if batch.domain in self._full:
            return self._full[batch.domain]
        trained = self._domains[batch.domain].catalogue.trained
        targets = torch.from_numpy(batch.targets[batch.targets > 0]).to(trained.device)
        return sampled_candidates(trained, targets, self._sampled_items)

    def positives(self, batch: Batch, candidates: Candidates) -> Tensor:
        """int64 [N]: the column of each target, row by row of the batch."""
        targets = torch.from_numpy(batch.targets[batch.targets > 0]).to(candidates.items.device)
        return torch.searchsorted(candidates.items, targets)  # candidates ascend

    def logits(self, model: SequentialRecommender, batch: Batch, candidates: Candidates) -> Tensor:
        """float32 [N, m]; see `logits_of`."""
        return logits_of(model, self._domains[batch.domain], batch, candidates)


def logits_of(
    model: SequentialRecommender,
    domain: Domain,
    batch: Batch,
    candidates: Candidates,
    vectors: Tensor | None = None,
) -> Tensor:
    """Every position with a target against every candidate: float32 [N, m], uncorrected; see `states_and_vectors`."""
    states, chosen = states_and_vectors(model, domain, batch, candidates, vectors)
    return states @ chosen.T


def states_and_vectors(
    model: SequentialRecommender,
    domain: Domain,
    batch: Batch,
    candidates: Candidates,
    vectors: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The states of the positions that have a target, and the vectors of the candidates.

    Args:
        model: the model that scores.
        domain: the batch's, opened with the model's spec.
        batch: of N targets.
        candidates: m items, as chosen for this batch.
        vectors: the model's item vectors [n_items + 1, D] where they are known already.

    Returns:
        float32 [N, D] and float32 [m, D]; their products are the logits.
    """
    device = domain.catalogue.device
    history = torch.from_numpy(batch.history).to(device)  # (B, L)
    columns = candidates.items
    if vectors is None and candidates.complete:
        vectors = model.item_vectors(domain.name, domain.catalogue)
    elif vectors is None:  # only the items that occur are encoded; row 0 stays padding
        padding = torch.zeros(1, dtype=torch.int64, device=device)
        needed = torch.unique(torch.cat([padding, history.flatten(), candidates.items]))
        vectors = model.item_vectors(domain.name, domain.catalogue, needed)
        history, columns = torch.searchsorted(needed, history), torch.searchsorted(needed, columns)
    users = torch.from_numpy(batch.users).to(device)
    moments = of_places(domain.data, batch.places, device) if model.spec.reads_moments else None
    states = model.states(
        domain.name, vectors, history, domain.profile_features[users], domain.profile_attributes[users], moments
    )  # (B, 1 + L, D)
    wanted = torch.from_numpy(np.flatnonzero(batch.targets)).to(device)
    # an item's column is its place: all but the padding where the candidates are complete
    chosen = vectors[1:] if candidates.complete else vectors.index_select(0, columns)
    return states.flatten(0, 1).index_select(0, wanted), chosen
