"""A student and its control arms: without them, "the student keeps 103 %" says nothing.

* `taught`: the student, with the task and the teacher's opinion;
* `untaught`: the same student and the same steps, with the task alone. What the teacher is worth. Its start is the same
  but for coded tables, which start from the teacher's vectors: here they know nothing of it;
* `teacher-sized`: a model of the teacher's size from random weights, with the task alone, as many steps unless it
  stops early. A teacher that is not ahead of it is a weak one, and keeping all of it is no merit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.compression.distill import Lessons, Taught, with_projections, without_projections
from pipeline.compression.int8_rows import with_int8_rows
from pipeline.compression.item_codes import factors, give_codes
from pipeline.compression.score_directions import ScoreDirections
from pipeline.compression.teacher_outputs import TeacherOutputs
from pipeline.models.item_table import CODES
from pipeline.models.recommender import SequentialRecommender
from pipeline.models.spec import ModelSpec
from pipeline.training.domains import Domain
from pipeline.training.loop import Loss, fit
from pipeline.training.next_item import NextItem
from pipeline.training.plan import Plan
from pipeline.training.randomness import seed_torch
from pipeline.training.scoring import Validation
from pipeline.training.similarity import choose_similarity

TAUGHT, UNTAUGHT, TEACHER_SIZED = "taught", "untaught", "teacher-sized"
PATIENCE = 4  # of the last, as fine-tuning has: what it needs to be seen for what it is


@dataclass(frozen=True)
class Arm:
    """One trained model.

    Attributes:
        valid: NDCG@10 of the validation rows, None where there are none.
    """

    name: str
    model: SequentialRecommender
    history: list[dict[str, Any]]
    valid: float | None

    @property
    def steps(self) -> int:
        """That were taken."""
        return int(self.history[-1]["step"])


@dataclass(frozen=True)
class Lab:
    """What the arms of one shape share.

    Attributes:
        domain: the target, opened with the arms' spec.
        codes_from: the teacher's item vectors, of the items in training, behind the codes of a taught student.
        rounds: the rows of the trained ID table are rounded to bytes.
    """

    spec: ModelSpec
    domain: Domain
    task: NextItem
    validation: Validation
    plan: Plan
    scratch: Path
    codes_from: ScoreDirections | None = None
    rounds: bool = False

    def taught(self, outputs: TeacherOutputs, lessons: Lessons) -> Arm:
        """The student with its teacher; stops early."""
        student = self.fresh(self.codes_from)
        if lessons.matching:
            with_projections(student, outputs.vectors.shape[1])
        return self._train(TAUGHT, student, Taught(self.task, outputs, self.domain, lessons), self.plan)

    def untaught(self, taught: Arm) -> Arm:
        """The student with exactly the steps of the taught one."""
        epochs = int(taught.history[-1]["epoch"])
        plan = replace(self.plan, patience=max(1, self.plan.epochs), stop_after=epochs)
        return self._train(UNTAUGHT, self.fresh(), self.task, plan)

    def alone(self, name: str, taught: Arm) -> Arm:
        """A model of this shape with the taught one's steps at most; stops early, as a teacher does."""
        epochs = int(taught.history[-1]["epoch"])
        plan = replace(self.plan, patience=min(PATIENCE, self.plan.patience), stop_after=epochs)
        return self._train(name, self.fresh(), self.task, plan)

    def fresh(self, codes_from: ScoreDirections | None = None) -> SequentialRecommender:
        """The model before training; the same one every time.

        Args:
            codes_from: a teacher's vectors behind the codes of a coded table; None, they are made without a teacher.
        """
        seed_torch(self.plan.seed, self.plan.name, "weights")
        model = SequentialRecommender(self.spec).to(self.domain.catalogue.device)
        if self.spec.table == CODES:
            vectors = codes_from or factors(self.domain.data, self.spec.id_width)
            give_codes(model, self.domain.name, self.domain.catalogue, vectors)
        return model

    def _train(self, name: str, model: SequentialRecommender, loss: Loss, plan: Plan) -> Arm:
        history = fit(model, [self.domain.training], loss, self.validation, plan, self.scratch / name)
        without_projections(model)
        chosen = choose_similarity(name, model, self.validation)
        if self.rounds:
            model = with_int8_rows(model)
            return Arm(name, model, history, self.validation(model))
        values = [row["valid_ndcg10"] for row in history if "valid_ndcg10" in row]
        return Arm(name, model, history, max(values, default=None) if chosen is None else chosen)


def better(taught: Arm, untaught: Arm) -> tuple[Arm, str]:
    """The student that is kept, and why; of equal ones the untaught, which is the cheaper."""
    if taught.valid is None or untaught.valid is None:
        return taught, "without validation rows nothing can be compared: the taught student is kept"
    figures = f"valid NDCG@10 {taught.valid:.4f} with its teacher, {untaught.valid:.4f} without"
    if taught.valid > untaught.valid:
        return taught, f"the taught student is kept: {figures}"
    return untaught, f"the untaught student is kept: {figures}; the teacher is no help"
