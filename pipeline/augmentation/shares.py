"""How many made sequences for one real one: chosen by validation, and nobody is judged with a share that he chose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from pipeline.augmentation.parts import Part
from pipeline.augmentation.trial import ArmFigures
from pipeline.data.sequences import Array
from pipeline.training.randomness import generator


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
