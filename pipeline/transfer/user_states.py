"""Whether a model's user states help, and how far to trust them: chosen on validation users with short histories.

The offset of pipeline/models/user_state.py is multiplied by one of `FACTORS`: what was learned on training sequences,
which the model knows, may be too much or too little for users it does not know. Each is judged by the mean of NDCG@10
over users cut to 1, 5 and 10 interactions and users as they are; where the best is not surely above no offset, the
part is taken out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch

from pipeline.augmentation.parts import ALL, judged, parts_of
from pipeline.evaluation.paired import paired_bootstrap
from pipeline.models.recommender import SequentialRecommender
from pipeline.models.user_state import UserState
from pipeline.training.domains import Domain

FACTORS = (0.0, 0.5, 1.0, 1.5)
SUPPORTS = (1, 5, 10)
CONFIDENCE = 0.95


@dataclass(frozen=True)
class UserStates:
    """What was chosen and why, on validation users.

    Attributes:
        factor: of the offset; 0 took it out.
        found: NDCG@10 by part with the offset as chosen; without: with none.
        n: users whose whole history was judged.
    """

    factor: float
    found: Mapping[str, float]
    without: Mapping[str, float]
    n: int

    @property
    def sentence(self) -> str:
        """For people."""
        if not self.factor:
            return f"user states left out: no sure gain on {self.n:,} validation users"
        told = ", ".join(f"{name} {self.without[name]:.4f} → {value:.4f}" for name, value in self.found.items())
        return f"user states kept at {self.factor:g}: {told} ({self.n:,} validation users)"

    @property
    def figures(self) -> dict[str, float]:
        """For tracking."""
        return {"user_state_factor": self.factor}


def chosen_user_states(
    model: SequentialRecommender, domain: Domain, limit: int, seed: int
) -> tuple[SequentialRecommender, UserStates | None]:
    """The model with the best factor on its offset, of equal ones the smallest; 0 where no gain is sure.

    Args:
        model: with user states; stays as it is.
        domain: opened for the model.
        limit, seed: of the validation users.

    Returns:
        the model itself and None where it has no user states or no validation user can be judged.
    """
    if not model.spec.user_state:
        return model, None
    nobody = np.zeros(domain.data.n_items + 1, dtype=bool)
    parts = parts_of(domain.data, "validation", nobody, limit, seed, SUPPORTS)
    parts = [part for part in parts if part.thin or part.name == ALL]  # nobody's items are of the tail
    if not parts:
        return model, None
    candidates = {factor: _scaled(model, factor) for factor in FACTORS}
    values = {factor: judged(candidate, domain, parts) for factor, candidate in candidates.items()}
    found = {factor: {name: float(part.mean()) for name, part in told.items()} for factor, told in values.items()}
    best = max(FACTORS, key=lambda factor: (float(np.mean(list(found[factor].values()))), -factor))
    ours, theirs = (np.concatenate(list(values[factor].values())) for factor in (best, 0.0))
    if paired_bootstrap(ours, theirs, CONFIDENCE, seed).low <= 0:
        best = 0.0
    n = max(len(part.rows) for part in parts)
    return candidates[best], UserStates(best, found[best], found[0.0], n)


@torch.no_grad()
def _scaled(model: SequentialRecommender, factor: float) -> SequentialRecommender:
    """A copy whose offset is multiplied; 0 is a model without user states."""
    copy = SequentialRecommender(replace(model.spec, user_state=factor > 0)).to(next(model.parameters()).device)
    copy.load_state_dict(model.state_dict(), strict=factor > 0)
    for part in copy.modules():
        if isinstance(part, UserState):
            part.gain.weight *= factor
    return copy.eval()
