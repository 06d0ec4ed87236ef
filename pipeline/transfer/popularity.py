"""A target's ID vectors started at how popular its items are, before the first step.

A backbone knows what an item is, and not whether anybody takes it; ID vectors that start at zero have to learn that
from few interactions in few steps. Counting is faster:

    ID of item i  =  β · log((cᵢ + ½) / (c̄ + ½)) · m,      m = s̄ / ‖s̄‖²,  s̄ the mean state of training

raises the item's score by β · log of its popularity for the average user. It is a start like any other: training goes
on from it, and the model is of the same shape. β is the one that validation likes best; 0, none, where none is better.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from pipeline.models.recommender import SequentialRecommender
from pipeline.training.batches import EpochBatches, TrainingDomain
from pipeline.training.domains import Domain
from pipeline.training.losses import full_candidates
from pipeline.training.next_item import states_and_vectors

STRENGTHS = (0.5, 1.0)  # β to try beside 0
BATCHES, ROWS = 8, 64  # of the mean state


@torch.no_grad()
def popular_start(
    model: SequentialRecommender,
    domain: Domain,
    sequences: TrainingDomain,
    validate: Callable[[SequentialRecommender], float | None],
    strengths: Sequence[float] = STRENGTHS,
) -> float:
    """Set the target's ID vectors in place, and return β.

    Args:
        model: whose ID vectors are a table as wide as the model; left in evaluation mode.
        domain: the target, opened for the model.
        sequences: of its training.
        validate: higher is better; None, nothing can be validated, leaves the vectors as they are.
        strengths: β to try.
    """
    model.eval()
    first = model.items.first_row[domain.name]
    rows = model.items.id_rows[first : first + domain.data.n_items + 1]
    before, best, kept = rows.clone(), validate(model), 0.0
    if best is None:
        return 0.0
    raised = _log_popularity(sequences, domain)[:, None] * _direction(model, domain, sequences)  # (n_items + 1, D)
    for strength in strengths:
        rows.copy_(before + strength * raised)
        value = validate(model)
        assert value is not None
        if value > best:
            best, kept = value, strength
    rows.copy_(before + kept * raised)
    return kept


def _log_popularity(sequences: TrainingDomain, domain: Domain) -> Tensor:
    """float32 [n_items + 1], 0 for the padding."""
    counts = np.bincount(sequences.items, minlength=domain.data.n_items + 1)
    logs = np.log((counts + 0.5) / (counts[1:].mean() + 0.5))
    logs[0] = 0.0
    return torch.from_numpy(logs.astype(np.float32)).to(domain.catalogue.device)


def _direction(model: SequentialRecommender, domain: Domain, sequences: TrainingDomain) -> Tensor:
    """m, float32 [D]: what added to an item's vector raises its score by one for the average state of training."""
    batches = EpochBatches([sequences], 0, 0, model.spec.max_length, ROWS)
    candidates = full_candidates(domain.catalogue.trained)
    read = (batches[number] for number in range(min(BATCHES, len(batches))))
    states = [states_and_vectors(model, domain, batch, candidates)[0] for batch in read]
    mean = torch.cat(states)[:, : model.spec.width].mean(0)  # likeness in content, behind it, is as it is
    members = mean.view(model.spec.members, -1)  # each raises the score by its share
    return (members / members.square().sum(1, keepdim=True).clamp(min=1e-12) / len(members)).flatten()
