"""How a training takes in more sequences: beside the real ones, and a held-out row is never made of one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from pipeline.augmentation.rows import Rows
from pipeline.training.batches import TrainingDomain
from pipeline.training.domains import Domain


def mixed(domain: Domain, rows: Rows | None) -> tuple[Domain, TrainingDomain]:
    """A domain and its training sequences with more rows; without any, as they are.

    Each further sequence is a user of its own for the batches, with the profile of the one it was made for. Held-out
    rows are the real ones: they name the first `n_users` users only.
    """
    if rows is None or not len(rows):
        return domain, domain.training
    owners = torch.from_numpy(rows.users).to(domain.profile_features.device)
    offsets, items = np.asarray(domain.data.offsets), np.asarray(domain.data.items)
    training = TrainingDomain(
        domain.name,
        np.concatenate([offsets, offsets[-1] + rows.offsets[1:]]),
        np.concatenate([items, rows.items.astype(items.dtype)]),
    )
    more = replace(
        domain,
        profile_features=torch.cat([domain.profile_features, domain.profile_features[owners]]),
        profile_attributes=torch.cat([domain.profile_attributes, domain.profile_attributes[owners]]),
    )
    return more, training
