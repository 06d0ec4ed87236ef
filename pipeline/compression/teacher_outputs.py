"""What a teacher says of every training interaction, computed once and kept on the disk.

    outputs = TeacherOutputs.of(teacher, domain, 50, job.scratch / "teacher")
    outputs.states[batch.places[batch.targets > 0]]      # row n: before interaction n of `domain.data.items`

A position is told with its whole history, also where a training window begins later: what the student reads moves from
epoch to epoch, what it is taught does not. Beside the first K items a state is kept, which with the teacher's item
vectors gives its logit of any other item: (6 K + 2 D) bytes a position, whatever the catalogue.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipeline.compression.score_directions import ScoreDirections, score_directions
from pipeline.data.sequences import Array
from pipeline.models.padding import left_padded
from pipeline.models.recommender import SequentialRecommender
from pipeline.training.domains import Domain
from pipeline.training.moments import of_places
from pipeline.training.weights import weights_hash

log = logging.getLogger(__name__)

TOP, LOGITS, STATES, WHOLE = "top.npy", "logits.npy", "states.npy", "whole"
ROWS_AT_ONCE = 128  # windows that the teacher reads at a time
SCORES_AT_ONCE = 2**21  # of the catalogue


@dataclass(frozen=True)
class TeacherOutputs:
    """Of n training interactions.

    Attributes:
        vectors: float32 [n_items + 1, D], the teacher's item vectors.
        top: int32 [n, K], the teacher's first items, best first; none is hidden.
        logits: float16 [n, K], theirs.
        states: float16 [n, D].
    """

    vectors: Tensor
    top: Array
    logits: Array
    states: Array

    @classmethod
    def of(cls, teacher: SequentialRecommender, domain: Domain, k: int, scratch: Path) -> TeacherOutputs:
        """Compute them, or read what an earlier attempt has left whole.

        Args:
            teacher: stays as it is.
            domain: of the target, opened with the teacher's spec.
            k: kept items of a position, at most the catalogue; 0: states only.
            scratch: a folder of their own.
        """
        k = min(k, domain.catalogue.n_items)
        teacher.eval()
        with torch.no_grad():
            vectors = teacher.item_vectors(domain.name, domain.catalogue)
        work = hashlib.sha256(f"{weights_hash(teacher)} {teacher.spec.similarity:g} {k}".encode()).hexdigest()
        if not (scratch / WHOLE).exists() or (scratch / WHOLE).read_text("utf-8") != work:
            _compute(teacher, domain, vectors, k, scratch)
            (scratch / WHOLE).write_text(work, "utf-8")
        kept = (np.load(scratch / name, mmap_mode="r") for name in (TOP, LOGITS, STATES))
        return cls(vectors, *kept)

    def told_apart(self, rank: int, items: Tensor) -> ScoreDirections:
        """The vectors of some items, int64 [m], in so many directions, those that scores of all positions need most."""
        return score_directions(self.vectors[items].cpu(), torch.from_numpy(np.array(self.states)), rank)

    @property
    def bytes(self) -> int:
        """On the disk."""
        return self.top.nbytes + self.logits.nbytes + self.states.nbytes


def _compute(teacher: SequentialRecommender, domain: Domain, vectors: Tensor, k: int, scratch: Path) -> None:
    scratch.mkdir(parents=True, exist_ok=True)
    (scratch / WHOLE).unlink(missing_ok=True)
    n, width = len(domain.data.items), vectors.shape[1]
    shapes = {TOP: (np.int32, k), LOGITS: (np.float16, k), STATES: (np.float16, width)}
    kept = {
        name: np.lib.format.open_memmap(scratch / name, mode="w+", dtype=dtype, shape=(n, columns))
        for name, (dtype, columns) in shapes.items()
    }
    users, starts, firsts, stops = _windows(np.asarray(domain.data.offsets), teacher.spec.max_length)
    items = np.asarray(domain.data.items)
    order = np.argsort(stops - starts, kind="stable")
    for begin in range(0, len(order), ROWS_AT_ONCE):
        rows = order[begin : begin + ROWS_AT_ONCE]
        read = [items[starts[row] : stops[row] - 1] for row in rows]
        with torch.inference_mode():
            history = torch.from_numpy(left_padded(read, teacher.spec.max_length)).to(vectors.device)
            ends = stops[rows, None] - 1 - np.arange(history.shape[1], -1, -1)  # (B, 1 + L)
            states = teacher.states(
                domain.name,
                vectors,
                history,
                domain.profile_features[users[rows]],
                domain.profile_attributes[users[rows]],
                of_places(domain.data, ends, vectors.device) if teacher.spec.reads_moments else None,
            )  # (B, 1 + L, S)
            length = states.shape[1]
            places = [np.arange(firsts[row], stops[row]) for row in rows]
            # Interaction p of a window that begins at s is told by the state after p - s items: the profile token's
            # stands in front, the others to the right.
            columns = [
                np.where(place == starts[row], 0, length - (stops[row] - place))
                for row, place in zip(rows, places, strict=True)
            ]
            lines = np.repeat(np.arange(len(rows)), [len(place) for place in places])
            told = states[torch.from_numpy(lines), torch.from_numpy(np.concatenate(columns))]  # (P, D)
        where = np.concatenate(places)
        kept[STATES][where] = told.cpu().numpy().astype(np.float16)
        if k:
            _keep_top(told, vectors, k, where, kept)
    for array in kept.values():
        array.flush()
    log.info("teacher: %s positions, %.1f MB kept", f"{n:,}", sum(a.nbytes for a in kept.values()) / 2**20)


def _keep_top(states: Tensor, vectors: Tensor, k: int, where: Array, kept: Mapping[str, Array]) -> None:
    rows = max(1, SCORES_AT_ONCE // len(vectors))
    for start in range(0, len(states), rows):
        best = (states[start : start + rows] @ vectors[1:].T).topk(k, dim=1)
        kept[TOP][where[start : start + rows]] = 1 + best.indices.cpu().numpy()
        kept[LOGITS][where[start : start + rows]] = best.values.cpu().numpy().astype(np.float16)


def _windows(offsets: Array, max_length: int) -> tuple[Array, Array, Array, Array]:
    """Windows whose targets are every interaction once: users, first item read, first target, end.

    Of a history that is longer than the teacher reads, windows overlap by half, so that a position is told with half of
    `max_length` items at least.
    """
    rows = []
    step = max(1, max_length // 2)
    for user in np.flatnonzero(np.diff(offsets)):
        first, last = int(offsets[user]), int(offsets[user + 1])
        stop = min(last, first + max_length + 1)
        rows.append((user, first, first, stop))
        while stop < last:
            target, stop = stop, min(last, stop + step)
            rows.append((user, stop - 1 - max_length, target, stop))
    return tuple(np.array(rows, dtype=np.int64).reshape(-1, 4).T)  # type: ignore[return-value]
