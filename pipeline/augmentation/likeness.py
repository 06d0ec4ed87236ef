"""How like real sequences made ones are.

A sequence is judged as a point (features of it, float32 [n, F]) or by its items. Every figure has a reference: the same
figure between two halves of the real sequences.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import torch
from scipy.spatial.distance import cdist, jensenshannon
from torch.nn import functional

from pipeline.data.sequences import Array

FOLDS = 4
CLASSIFIER_STEPS = 150
NEIGHBOURS = 5
GROUPS = 12  # of items, for transitions


@dataclass(frozen=True)
class Likeness:
    """Made against real sequences.

    Attributes:
        two_sample: held-out accuracy of a classifier (arXiv 1610.06545); 0.5: it cannot tell, 1: it always can.
        density, coverage: arXiv 2002.09797; about 1 is real, 0 is elsewhere.
        popularity_divergence: Jensen–Shannon divergence of item frequencies, bits, 0 to 1.
        transition_agreement: 1 less the total variation between transitions of item groups, weighted by how often a
            group is left; 1 is equal.
        nearest: median distance to the nearest real sequence, as a share of that between real ones; near 0 is copied.
    """

    two_sample: float
    density: float
    coverage: float
    popularity_divergence: float
    transition_agreement: float
    nearest: float

    def to_json(self) -> dict[str, float]:
        """Figures by name."""
        return asdict(self)


def likeness(real: Array, made: Array, seen: Array, seed: int) -> Likeness:
    """All figures.

    Args:
        real, made: int64 [n, L], left-aligned, 0 after the last item; two sequences each at least.
        seen: float32 [n_items + 1, V], what is seen of an item; row 0 is zeros.
        seed: of classifier and groups.
    """
    points, theirs = features(made, seen), features(real, seen)
    scale = theirs.std(0) + 1e-6
    points, theirs = points / scale, theirs / scale
    density, coverage = density_and_coverage(theirs, points)
    groups = item_groups(seen, seed)
    return Likeness(
        two_sample=two_sample_accuracy(theirs, points, seed),
        density=density,
        coverage=coverage,
        popularity_divergence=popularity_divergence(real[real > 0], made[made > 0], len(seen)),
        transition_agreement=transition_agreement(real, made, groups),
        nearest=nearest_distance(theirs, points),
    )


def features(items: Array, seen: Array) -> Array:
    """float32 [n, 3 · V]: mean and spread of what is seen of the items, mean product of neighbours."""
    there = (items > 0)[:, :, None]
    views = seen[items] * there  # (n, L, V)
    count = np.maximum(there.sum(1), 1)
    mean = views.sum(1) / count
    spread = np.sqrt(np.maximum((views**2).sum(1) / count - mean**2, 0.0))
    both = there[:, 1:] & there[:, :-1]
    products = (views[:, 1:] * views[:, :-1] * both).sum(1) / np.maximum(both.sum(1), 1)
    return np.concatenate([mean, spread, products], axis=1).astype(np.float32)


def two_sample_accuracy(real: Array, made: Array, seed: int) -> float:
    """Balanced accuracy of a small network on folds it has not seen."""
    n = min(len(real), len(made))
    draws = np.random.default_rng(seed)
    points = np.concatenate([rows[draws.permutation(len(rows))[:n]] for rows in (real, made)])
    points = (points - points.mean(0)) / (points.std(0) + 1e-6)
    x, y = torch.from_numpy(points.astype(np.float32)), torch.cat([torch.zeros(n), torch.ones(n)])
    fold = torch.from_numpy(np.concatenate([np.arange(n) % FOLDS] * 2))
    right = 0.0
    with torch.random.fork_rng(devices=[]):
        for held in range(min(FOLDS, n)):
            torch.manual_seed(seed + held)
            network = torch.nn.Sequential(
                torch.nn.Linear(x.shape[1], 32), torch.nn.ReLU(), torch.nn.Dropout(0.3), torch.nn.Linear(32, 1)
            )
            optimizer = torch.optim.AdamW(network.parameters(), lr=0.01, weight_decay=0.1)
            for _ in range(CLASSIFIER_STEPS):
                optimizer.zero_grad()
                loss = functional.binary_cross_entropy_with_logits(network(x[fold != held])[:, 0], y[fold != held])
                loss.backward()
                optimizer.step()
            network.eval()
            with torch.no_grad():
                said = network(x[fold == held])[:, 0] > 0
            right += float((said == (y[fold == held] > 0)).sum())
    return right / len(y)


def density_and_coverage(real: Array, made: Array, neighbours: int = NEIGHBOURS) -> tuple[float, float]:
    """Naeem et al., arXiv 2002.09797: how many real neighbourhoods a made point lies in, and how many hold one."""
    k = min(neighbours, len(real) - 1)
    radius = np.partition(cdist(real, real), k, axis=1)[:, k]  # the distance to oneself is the smallest
    inside = cdist(made, real) <= radius  # (m, n)
    return float(inside.sum(1).mean() / k), float(inside.any(0).mean())


def popularity_divergence(real: Array, made: Array, n_items: int) -> float:
    """Jensen–Shannon divergence between item frequencies, in bits."""
    counts = [np.bincount(items, minlength=n_items) for items in (real, made)]
    if not all(count.any() for count in counts):
        return 1.0
    return float(jensenshannon(*counts, base=2) ** 2)


def item_groups(seen: Array, seed: int) -> Array:
    """int64 [n_items + 1]: items grouped by what is seen of them (Lloyd's k-means, ten rounds)."""
    draws = np.random.default_rng(seed)
    points = seen[1:]
    centres = points[draws.choice(len(points), min(GROUPS, len(points)), replace=False)]
    for _ in range(10):
        nearest = cdist(points, centres).argmin(1)
        for group in range(len(centres)):
            if (nearest == group).any():
                centres[group] = points[nearest == group].mean(0)
    return np.concatenate([[-1], nearest])


def transition_agreement(real: Array, made: Array, groups: Array) -> float:
    """See `Likeness`."""
    n = int(groups.max()) + 1
    matrices = []
    for items in (real, made):
        before, after = items[:, :-1], items[:, 1:]
        both = (before > 0) & (after > 0)
        flat = groups[before[both]] * n + groups[after[both]]
        matrices.append(np.bincount(flat, minlength=n * n).reshape(n, n).astype(np.float64))
    if not all(matrix.any() for matrix in matrices):
        return 0.0
    weight = matrices[0].sum(1) / matrices[0].sum()
    rows = [matrix / np.maximum(matrix.sum(1, keepdims=True), 1.0) for matrix in matrices]
    # a group that is never left has no transition in common with the real ones
    apart = np.where(matrices[1].any(1), 0.5 * np.abs(rows[0] - rows[1]).sum(1), 1.0)
    return float(1.0 - (weight * apart).sum())


def nearest_distance(real: Array, made: Array) -> float:
    """See `Likeness`."""
    among = np.partition(cdist(real, real), 1, axis=1)[:, 1]
    return float(np.median(cdist(made, real).min(1)) / max(float(np.median(among)), 1e-9))
