"""distill@T: teach a small student with the teacher's logits.

    warmstart stage distill --target harbour

The student reads the same content; it is narrower, shallower, and its ID table is a low-rank one.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from pydantic import Field

from pipeline.exit_codes import BadConfiguration
from pipeline.runs.contract import Folders, Job, Summary
from pipeline.training.plan import TrainingParams

if TYPE_CHECKING:
    from pipeline.models.spec import ModelSpec

log = logging.getLogger(__name__)


class Params(TrainingParams):
    """Parameters of the student and of its lessons."""

    width: int = Field(ge=4, description="of item vectors and of the trunk")
    layers: int = Field(ge=1, description="Transformer layers")
    heads: int = Field(ge=1, description="attention heads of a layer; must divide the width")
    id_width: int = Field(default=8, ge=1, description="rank of the ID table; at most the width")
    attribute_buckets: int = Field(default=1024, ge=1, description="rows of the hashed table of item attributes")
    profile_buckets: int = Field(default=64, ge=1, description="rows of the hashed table of user attributes")
    dropout: float = Field(default=0.1, ge=0, lt=1, description="on embeddings and layers")
    id_dropout: float = Field(default=0.1, ge=0, lt=1, description="chance that an item is trained by content alone")
    temperature: float = Field(gt=0, description="T: how soft the teacher's opinion is made")
    weight: float = Field(ge=0, description="λ: of the teacher's opinion beside the task")


def run(inputs: Folders, outputs: Folders, params: Params, job: Job) -> Summary:
    """Make the target's student.

    Raises:
        BadConfiguration: the student is not smaller than the teacher, its heads do not divide its width, or the loss
            became NaN.
    """
    from pipeline.compression.distill import Taught
    from pipeline.data.training_set import load_domain
    from pipeline.models.recommender import SequentialRecommender
    from pipeline.training.domains import open_domain
    from pipeline.training.loop import fit
    from pipeline.training.next_item import NextItem
    from pipeline.training.randomness import make_deterministic, seed_torch
    from pipeline.training.report_line import found_line
    from pipeline.training.scoring import Validation
    from pipeline.training.weights import load_model, save_model, write_history

    assert job.target is not None
    teacher = load_model(inputs["models/teacher"])
    device = make_deterministic(job.threads, teacher.spec.width)
    teacher = teacher.to(device)
    data = load_domain(inputs["data/training"], job.target)
    name, out = f"distill@{job.target}", outputs["models/student"]
    about = {"stage": "distill", "target": job.target, "seed": params.seed}
    spec = student_spec(teacher.spec, params)
    seed_torch(params.seed, name, "weights")
    student = SequentialRecommender(spec).to(device)
    if student.n_parameters >= teacher.n_parameters:
        raise BadConfiguration(
            f"{name}: the student would have {student.n_parameters:,} parameters and its teacher has "
            f"{teacher.n_parameters:,}; lower distill.width, distill.layers or distill.attribute_buckets"
        )
    if len(data.items) == 0:
        save_model(out, teacher, {**about, "taught": False})
        write_history(out, [])
        found = f"{job.target} has no training interactions to teach with: the student is the teacher as it is"
        return Summary(found, {"parameters": teacher.n_parameters, "epochs": 0})
    vectors = inputs["data/item_vectors"]
    domain = open_domain(data, vectors, spec, device)
    task = NextItem([domain], params.full_softmax_items, params.sampled_items)
    loss = Taught(task, teacher, open_domain(data, vectors, teacher.spec, device), params.weight, params.temperature)
    validation = Validation([domain], params.validation_users, params.seed)
    log.info("%s: %s parameters, teacher %s", name, f"{student.n_parameters:,}", f"{teacher.n_parameters:,}")
    history = fit(student, [domain.training], loss, validation, params.plan(name), job.scratch / "distill")
    save_model(out, student, {**about, "taught": params.weight > 0})
    write_history(out, history)
    ratio = teacher.n_parameters / student.n_parameters
    found, metrics = found_line(student.n_parameters, history)
    return Summary(f"{found}; {ratio:.1f} times smaller than the teacher", {**metrics, "params_ratio": ratio})


def student_spec(teacher: ModelSpec, params: Params) -> ModelSpec:
    """The student's shape.

    Raises:
        BadConfiguration: the heads do not divide the width, or the ID vectors are wider than the model.
    """
    from dataclasses import replace

    from pipeline.models.spec import uniform_layers

    if params.width % params.heads:
        raise BadConfiguration(
            f"distill.heads is {params.heads}, which does not divide distill.width {params.width}; choose heads that do"
        )
    if params.id_width > params.width:
        raise BadConfiguration(
            f"distill.id_width is {params.id_width}, more than distill.width {params.width}; at most the width"
        )
    return replace(
        teacher,
        width=params.width,
        head_width=params.width // params.heads,
        layers=uniform_layers(params.layers, params.heads, 4 * params.width),
        id_width=params.id_width,
        attribute_buckets=params.attribute_buckets,
        profile_buckets=params.profile_buckets,
        dropout=params.dropout,
        id_dropout=params.id_dropout,
        newcomer=False,  # what the teacher was calibrated to, the student learns from its opinions
    )
