"""Episodes of meta-learning: a few batches of one task, a task being a group of like users of one domain.

Users are grouped by what they take: k-means over the mean content vectors of their training items. Where nothing is
known of items' contents, a domain is one task.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.cluster.vq import kmeans2

from pipeline.training.batches import Batch, EpochBatches, TrainingDomain
from pipeline.training.domains import Domain
from pipeline.training.randomness import generator

Episode = tuple[Batch, ...]  # of one task, in the order they are learned from


class Episodes:
    """One epoch's episodes, addressable by step: about as many batches as one pass over all tasks has.

    A task's share of the episodes is proportional to (its batches) ** temperature. A task with fewer batches than its
    episodes want is passed again.
    """

    def __init__(
        self,
        tasks: Sequence[TrainingDomain],
        seed: int,
        epoch: int,
        max_length: int,
        batch_size: int,
        temperature: float,
        size: int,
    ) -> None:
        """Args:
        tasks: several may be of one domain.
        size: batches of an episode.
        """
        self._size = size
        self._batches = [EpochBatches([task], seed, epoch, max_length, batch_size) for task in tasks]
        lengths = np.array([len(batches) for batches in self._batches], dtype=np.float64)
        weights = np.where(lengths > 0, lengths**temperature, 0.0)
        shares = np.rint(lengths.sum() / size * weights / max(weights.sum(), 1.0)).astype(int)
        shares = np.where(lengths > 0, np.maximum(1, shares), 0)
        plan = [(task, number) for task, share in enumerate(shares) for number in range(share)]
        self._plan = [plan[i] for i in generator(seed, "episodes", epoch).permutation(len(plan))]

    def __len__(self) -> int:
        return len(self._plan)

    def __getitem__(self, step: int) -> Episode:
        task, number = self._plan[step]
        batches, first = self._batches[task], number * self._size
        return tuple(batches[(first + i) % len(batches)] for i in range(self._size))


def user_groups(domain: Domain, sequences: TrainingDomain, groups: int, seed: int) -> list[TrainingDomain]:
    """A domain's training sequences as tasks of like users; users keep their index.

    Args:
        domain: whose contents tell users apart.
        sequences: its own, or some of them.
        groups: at most; one where there are fewer than two users for each, or nothing is known of contents.
        seed: of k-means.
    """
    offsets, items = np.asarray(sequences.offsets), np.asarray(sequences.items)
    lengths = np.diff(offsets)
    active = np.flatnonzero(lengths)
    tables = [table.cpu().numpy() for table in domain.catalogue.content.values()]
    content = np.hstack(tables) if tables else np.zeros((len(domain.catalogue.trained), 0))
    if groups < 2 or len(active) < 2 * groups or not content.any():
        return [sequences]
    sums = np.add.reduceat(content[items].astype(np.float64), offsets[active], axis=0)
    means = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
    _, found = kmeans2(means, groups, minit="++", rng=generator(seed, "user groups", domain.name))
    group = np.full(len(lengths), -1)
    group[active] = found
    tasks = []
    for number in np.unique(found):
        kept = group == number
        bounds = np.concatenate([[0], np.cumsum(lengths * kept)]).astype(np.int64)
        tasks.append(TrainingDomain(sequences.name, bounds, items[np.repeat(kept, lengths)]))
    return tasks
