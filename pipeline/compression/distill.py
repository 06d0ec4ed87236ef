"""Distillation: a student learns the task and the teacher's opinion.

    L = L_task + λ · T² · KL(teacher ‖ student) + ρ · ranking + μ · matching

* KL (arXiv 1503.02531) over the whole catalogue; where the task samples it, over the teacher's first K items of a
  position and a sample of all others that stands for the rest. Items outside of training are among them: the teacher's
  opinion of them is all that a student can learn about them.
* ranking: the likelihood of the teacher's order of its first K (`pipeline.compression.terms.ranking_loss`).
* matching: squared error of states, and of item vectors, against the teacher's, each through a projection that is
  trained along and thrown away.

The teacher speaks once, before training (`pipeline.compression.teacher_outputs`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from pipeline.compression.teacher_outputs import TeacherOutputs
from pipeline.compression.terms import matching_loss, ranking_loss
from pipeline.models.recommender import SequentialRecommender
from pipeline.training.batches import Batch
from pipeline.training.domains import Domain
from pipeline.training.losses import Candidates, distillation_loss, next_item_loss
from pipeline.training.next_item import NextItem, states_and_vectors

PROJECTIONS = "projections"  # of a student while it learns
NOTHING = -1e4  # a logit of no chance; of -inf, a divergence would be no number


@dataclass(frozen=True)
class Lessons:
    """What is learned from the teacher, and how much of it.

    Attributes:
        weight: λ of the divergence.
        temperature: T of the divergence.
        top: K; 0 allows no ranking, and takes the divergence over the task's own candidates where it samples.
        rest: items drawn for a batch that stand for all others, where the task samples.
        ranking: ρ.
        matching: μ.
    """

    weight: float
    temperature: float
    top: int = 0
    rest: int = 0
    ranking: float = 0.0
    matching: float = 0.0

    @property
    def any(self) -> bool:
        """Is anything learned from the teacher?"""
        return self.weight > 0 or self.ranking > 0 or self.matching > 0


class Taught:
    """The loss of a student beside its teacher's outputs."""

    def __init__(self, task: NextItem, outputs: TeacherOutputs, domain: Domain, lessons: Lessons) -> None:
        """Args:
        task: next items of the domain.
        outputs: of the teacher, with `lessons.top` items a position.
        domain: of the target, opened with the student's spec.
        lessons: what to learn from them.
        """
        self._task, self._outputs, self._domain, self._lessons = task, outputs, domain, lessons

    def __call__(self, student: SequentialRecommender, batch: Batch) -> Tensor:
        """Mean over the batch's targets."""
        if not self._lessons.any:
            return self._task(student, batch)
        device = self._domain.catalogue.device
        places = batch.places[batch.targets > 0]
        told = torch.from_numpy(self._outputs.states[places]).to(device).float()  # (N, D of the teacher)
        top = torch.from_numpy(self._outputs.top[places]).to(device).long()  # (N, K)
        candidates = self._task.candidates(batch)
        if candidates.complete or not self._lessons.top:
            return self._of_candidates(student, batch, candidates, told, top)
        first = torch.from_numpy(self._outputs.logits[places]).to(device).float()  # (N, K)
        return self._of_top(student, batch, candidates, told, top, first)

    def _of_candidates(
        self, student: SequentialRecommender, batch: Batch, candidates: Candidates, told: Tensor, top: Tensor
    ) -> Tensor:
        lessons = self._lessons
        states, vectors = states_and_vectors(student, self._domain, batch, candidates)
        logits = states @ vectors.T  # (N, m)
        loss = next_item_loss(logits, self._task.positives(batch, candidates), candidates)
        if lessons.weight:
            ours, theirs = logits, told @ self._outputs.vectors[candidates.items].T
            if not candidates.complete:  # both partition sums are estimates from the same sample
                weight = candidates.log_weight * lessons.temperature
                ours, theirs = ours + weight, theirs + weight
            loss = loss + lessons.weight * distillation_loss(ours, theirs, lessons.temperature)
        if lessons.ranking:
            rest = logits.scatter(1, top - 1, NOTHING)
            loss = loss + lessons.ranking * ranking_loss(logits.gather(1, top - 1), rest)
        return loss + self._matching(student, states, vectors, candidates.items, told)

    def _of_top(
        self,
        student: SequentialRecommender,
        batch: Batch,
        candidates: Candidates,
        told: Tensor,
        top: Tensor,
        first: Tensor,
    ) -> Tensor:
        lessons, n_items = self._lessons, self._domain.catalogue.n_items
        drawn = 1 + torch.randperm(n_items, device=top.device)[: lessons.rest]  # (R,)
        every = torch.unique(torch.cat([candidates.items, drawn, top.flatten()]))  # (M,), encoded once
        states, vectors = states_and_vectors(student, self._domain, batch, replace(candidates, items=every))

        def place(items: Tensor) -> Tensor:
            return torch.searchsorted(every, items)

        loss = self._task.loss_of(student, states, vectors.index_select(0, place(candidates.items)), batch, candidates)
        of_top = torch.einsum("nd,nkd->nk", states, nn.functional.embedding(place(top), vectors))  # (N, K)
        of_rest = states @ vectors.index_select(0, place(drawn)).T  # (N, R)
        twice = _also_in(drawn, top, n_items)  # there already; the others stand for all that were not drawn
        log_weight = math.log(n_items / len(drawn))
        if lessons.weight:
            student_logits, teacher_logits = (
                torch.cat([a, (b + lessons.temperature * log_weight).masked_fill(twice, NOTHING)], dim=1)
                for a, b in ((of_top, of_rest), (first, told @ self._outputs.vectors[drawn].T))
            )
            divergence = distillation_loss(student_logits, teacher_logits, lessons.temperature)
            loss = loss + lessons.weight * divergence
        if lessons.ranking:
            loss = loss + lessons.ranking * ranking_loss(of_top, (of_rest + log_weight).masked_fill(twice, NOTHING))
        return loss + self._matching(student, states, vectors, every, told)

    def _matching(
        self, student: SequentialRecommender, states: Tensor, vectors: Tensor, items: Tensor, told: Tensor
    ) -> Tensor:
        if not self._lessons.matching:
            return states.new_zeros(())
        projections = student.get_submodule(PROJECTIONS)
        assert isinstance(projections, Projections)
        of_states = matching_loss(projections.states(states), told)
        of_items = matching_loss(projections.items(vectors), self._outputs.vectors[items])
        return self._lessons.matching * (of_states + of_items)


def _also_in(drawn: Tensor, top: Tensor, n_items: int) -> Tensor:
    """bool [N, R]: which of the items `drawn` [R] are in a row of `top` [N, K]."""
    column = torch.zeros(n_items + 1, dtype=torch.int64, device=top.device)
    column[drawn] = torch.arange(1, len(drawn) + 1, device=top.device)
    found = torch.zeros(len(top), len(drawn) + 1, dtype=torch.bool, device=top.device)
    return found.scatter_(1, column[top], value=True)[:, 1:]


class Projections(nn.Module):
    """From a student's width to its teacher's."""

    def __init__(self, width: int, to: int) -> None:
        super().__init__()
        self.states = nn.Linear(width, to, bias=False)
        self.items = nn.Linear(width, to, bias=False)


def with_projections(student: SequentialRecommender, width: int) -> None:
    """Give a student projections to a teacher of that width: they are trained and checkpointed with it."""
    student.add_module(PROJECTIONS, Projections(student.spec.width, width).to(next(student.parameters()).device))


def without_projections(student: SequentialRecommender) -> None:
    """Take them away, where there are any: they are no part of the model."""
    student._modules.pop(PROJECTIONS, None)
