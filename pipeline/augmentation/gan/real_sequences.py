"""The training sequences of one domain with all that a generator reads of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from pipeline.data.sequences import Array
from pipeline.models.generator import Space
from pipeline.models.recommender import SequentialRecommender
from pipeline.training.domains import Domain

REPEATS = 0.01  # share of interactions with an item the user had before, up to which users never repeat


@dataclass(frozen=True)
class RealSequences:
    """What is imitated.

    Attributes:
        name: of the domain.
        space: its items.
        offsets: int64 [n_users + 1]; items: int64 [n]; users without an interaction are never drawn.
        profiles: float32 [n_users, P].
        distinct: users practically never take an item twice.
    """

    name: str
    space: Space
    offsets: Array
    items: Array
    profiles: Tensor
    distinct: bool


def real_sequences(domain: Domain, model: SequentialRecommender) -> RealSequences:
    """A domain's sequences, its items by their content and its profiles by their tokens, as `model` places them."""
    data = domain.data
    items, offsets = np.asarray(data.items).astype(np.int64), np.asarray(data.offsets)
    with torch.no_grad():
        # content alone: what an item is passes between domains, what it has been through does not
        unknown = replace(domain.catalogue, trained=torch.zeros_like(domain.catalogue.trained))
        vectors = model.items(data.name, unknown)
        profiles = model.profile(data.name, domain.profile_features, domain.profile_attributes)
    profiles = profiles / profiles.norm(dim=1).mean().clamp(min=1e-6)
    space = Space.of(vectors, torch.from_numpy(np.bincount(items, minlength=data.n_items + 1)))
    users = np.repeat(np.arange(data.n_users), np.diff(offsets))
    pairs = len(np.unique(users * (data.n_items + 1) + items))
    distinct = 1.0 - pairs / max(1, len(items)) <= REPEATS
    return RealSequences(data.name, space, offsets, items, profiles, distinct)
