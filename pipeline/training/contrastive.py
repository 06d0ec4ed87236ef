"""Sequence–item contrast across domains: a state shall know its next item by content alone, among items of all domains.

    L = − mean over positions of log( exp(s·c⁺/τ) / Σ_c exp(s·c/τ) ),      s and c of unit length

c⁺ is the next item without its ID vector; the others are the next items of the batch and draws of every other domain.
So contents of different domains stay apart where what people do with them differs, and what is learned of content does
not lean on IDs (UniSRec, Hou et al., KDD 2022, arXiv 2206.05941).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.models.item_encoder import Catalogue
from pipeline.models.recommender import SequentialRecommender
from pipeline.training.batches import Batch
from pipeline.training.domains import Domain

TEMPERATURE = 0.1
DRAWN = 256  # items of every other domain


class Contrastive:
    """The contrast of one batch, beside the task."""

    def __init__(self, domains: Sequence[Domain]) -> None:
        """Args:
        domains: whose batches will come, and whose items are contrasted.
        """
        self._without_ids = {domain.name: _without_ids(domain.catalogue) for domain in domains}
        self._trained = {domain.name: torch.nonzero(domain.catalogue.trained).flatten() for domain in domains}

    def __call__(self, model: SequentialRecommender, batch: Batch, states: Tensor) -> Tensor:
        """The loss in nats.

        Args:
            model: that made the states.
            batch: of N targets.
            states: float32 [N, D], of the positions that have a target, row by row.
        """
        targets = torch.from_numpy(batch.targets[batch.targets > 0]).to(states.device)
        own, positives = torch.unique(targets, return_inverse=True)  # (m,), (N,)
        vectors = [model.items(batch.domain, self._without_ids[batch.domain], own)]
        for name, pool in self._trained.items():
            if name != batch.domain:
                drawn = pool[torch.randint(len(pool), (DRAWN,), device=pool.device)]
                vectors.append(model.items(name, self._without_ids[name], drawn))
        contrasted = functional.normalize(torch.cat(vectors), dim=1)
        logits = functional.normalize(states, dim=1) @ contrasted.T / TEMPERATURE
        return functional.cross_entropy(logits, positives)


def _without_ids(catalogue: Catalogue) -> Catalogue:
    return replace(catalogue, trained=torch.zeros_like(catalogue.trained))
