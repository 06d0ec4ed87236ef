"""Masked attribute prediction: what is the item at a masked place like? Its attributes, told from what comes before.

    L = − mean over positions of 1/|A| · Σ_{a ∈ A} log softmax(s · E)_a,      A the attributes of the next item

E are the attributes' own vectors, those that items are made of, so nothing is added to the model. After S³-Rec's masked
item attribute prediction (Zhou et al., CIKM 2020, arXiv 2008.07873), whose masked place is here, as the model is
causal, always the next one.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.models.recommender import SequentialRecommender
from pipeline.training.batches import Batch
from pipeline.training.domains import Domain

log = logging.getLogger(__name__)


class AttributePrediction:
    """The prediction for one batch, beside the task."""

    def __init__(self, domains: Sequence[Domain]) -> None:
        """Args:
        domains: whose batches will come.
        """
        self._attributes = {domain.name: domain.catalogue.attributes for domain in domains}
        self._known = {name: torch.unique(table[table > 0]) for name, table in self._attributes.items()}
        for name, known in self._known.items():
            if not len(known):
                log.info("%s: no item has an attribute, so none is predicted", name)

    def __call__(self, model: SequentialRecommender, batch: Batch, states: Tensor) -> Tensor:
        """The loss in nats, 0 for a batch none of whose targets has an attribute; arguments as of `Contrastive`."""
        targets = torch.from_numpy(batch.targets[batch.targets > 0]).to(states.device)
        attributes = self._attributes[batch.domain][targets]  # (N, A), 0 is padding
        told = attributes > 0
        rows = told.any(1)
        if not rows.any():
            return states.new_zeros(())
        known = self._known[batch.domain]  # (a,), ascending
        of_own = states[rows, : model.spec.width]  # with fusion at the decision: what weighs attributes and ID
        logits = of_own @ model.items.attributes(known).T  # (n, a)
        columns = torch.searchsorted(known, attributes[rows]).clamp(max=len(known) - 1)
        found = functional.log_softmax(logits, dim=1).gather(1, columns)  # (n, A)
        share = told[rows].to(found.dtype)
        return -((found * share).sum(1) / share.sum(1)).mean()
