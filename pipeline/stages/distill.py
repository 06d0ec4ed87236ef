"""distill@T: teach a small student with the teacher's opinion, beside the arms that tell what it is worth.

    warmstart stage distill --target harbour

The student reads the same content; it is narrower, shallower, and its ID table is a smaller one. The same student
without its teacher and a model of the teacher's size are trained with the same steps; the better student is kept.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Literal

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
    similarity: bool = Field(
        default=False, description="keep the teacher's likeness in content; item vectors are wider by the content's"
    )
    table: Literal["factors", "codes", "int8", "content"] = Field(
        default="factors", description="how ID vectors are kept: pipeline/models/item_table.py"
    )
    id_parts: int = Field(default=8, ge=1, description="table codes: pieces of an ID vector; must divide id_width")
    id_codes: int = Field(default=256, ge=2, le=256, description="table codes: pieces to choose from, of each part")
    id_alone: bool = Field(
        default=False, description="an item with an ID is its ID vector alone; content stands in for the others"
    )
    temperature: float = Field(gt=0, description="T: how soft the teacher's opinion is made")
    weight: float = Field(ge=0, description="λ: of the teacher's opinion beside the task")
    top: int = Field(default=0, ge=0, description="K: the teacher's first items of a position, learned apart")
    rest: int = Field(default=256, ge=1, description="items drawn a batch that stand for the rest, in large catalogues")
    ranking: float = Field(default=0.0, ge=0, description="ρ: of the order of the teacher's first K")
    matching: float = Field(default=0.0, ge=0, description="μ: of states and item vectors against the teacher's")


def run(inputs: Folders, outputs: Folders, params: Params, job: Job) -> Summary:
    """Make the target's student, and its report.

    Raises:
        BadConfiguration: the student is not smaller than the teacher, its shape does not work out, ranking is asked for
            without the teacher's first items, or the loss became NaN.
    """
    import polars as pl
    import torch

    from pipeline.compression.arms import TEACHER_SIZED, Lab, better
    from pipeline.compression.distill import Lessons
    from pipeline.compression.report import render_report
    from pipeline.compression.retained import retained
    from pipeline.compression.teacher_outputs import TeacherOutputs
    from pipeline.data.training_set import load_domain
    from pipeline.models.inherit import items_alone
    from pipeline.models.item_table import CODES, INT8, TABLES, table_bytes
    from pipeline.models.recommender import SequentialRecommender
    from pipeline.training.domains import open_domain
    from pipeline.training.next_item import NextItem
    from pipeline.training.randomness import make_deterministic
    from pipeline.training.report_line import found_line
    from pipeline.training.scoring import Validation
    from pipeline.training.weights import load_model, save_model, write_history

    assert job.target is not None
    teacher = load_model(inputs["models/teacher"])
    device = make_deterministic(job.threads, teacher.spec.width)
    teacher = teacher.to(device)
    data, vectors = load_domain(inputs["data/training"], job.target), inputs["data/item_vectors"]
    name, out, reports = f"distill@{job.target}", outputs["models/student"], outputs["reports/distillation"]
    about = {"stage": "distill", "target": job.target, "seed": params.seed}
    spec = student_spec(teacher.spec, params)
    small = SequentialRecommender(spec).n_parameters
    if small >= teacher.n_parameters:
        raise BadConfiguration(
            f"{name}: the student would have {small:,} parameters and its teacher has "
            f"{teacher.n_parameters:,}; lower distill.width, distill.layers or distill.attribute_buckets"
        )

    def report(why: str, found: object, tables: list[dict[str, object]]) -> None:
        page = {"target": job.target, "why": why, "table": params.table, "retained": found, "tables": tables}
        (reports / "distill.json").write_text(json.dumps(page, indent=1, sort_keys=True) + "\n", "utf-8")
        (reports / "report.html").write_text(render_report(page), "utf-8")

    if len(data.items) == 0:
        save_model(out, items_alone(teacher), {**about, "taught": False})
        write_history(out, [])
        none = f"{job.target} has no training interactions to teach with: the student is the teacher as it is"
        report(none, None, [])
        return Summary(none, {"parameters": teacher.n_parameters, "epochs": 0})
    lessons = Lessons(params.weight, params.temperature, params.top, params.rest, params.ranking, params.matching)
    shapes = {"student": spec, "teacher": teacher.spec}
    domains = {whose: open_domain(data, vectors, shape, device) for whose, shape in shapes.items()}
    said = TeacherOutputs.of(teacher, domains["teacher"], params.top, job.scratch / "teacher")
    start = None
    if params.table == CODES:
        start = said.told_apart(params.id_width, torch.nonzero(domains["teacher"].catalogue.trained).flatten())

    def lab(whose: str) -> Lab:
        opened = domains[whose]
        return Lab(
            spec=shapes[whose],
            domain=opened,
            task=NextItem([opened], params.full_softmax_items, params.sampled_items),
            validation=Validation([opened], params.validation_users, params.seed),
            plan=params.plan(name),
            scratch=job.scratch,
            codes_from=start,
            rounds=whose == "student" and params.table == INT8,
        )

    log.info("%s: %s parameters, teacher %s", name, f"{small:,}", f"{teacher.n_parameters:,}")
    students = lab("student")
    taught = students.taught(said, lessons)
    untaught = students.untaught(taught)
    sized = lab("teacher").alone(TEACHER_SIZED, taught)
    kept, why = better(taught, untaught)
    about |= {"taught": kept is taught and lessons.any, "why": why}
    model = kept.model
    save_model(out, model, about)
    write_history(out, kept.history)
    of_arms = [(taught, domains["student"]), (untaught, domains["student"]), (sized, domains["teacher"])]
    found, columns = retained(teacher, domains["teacher"], of_arms, params.seed)
    per_user = pl.DataFrame({"user_index": data.holdout("test").user_index, **columns})
    per_user.write_parquet(reports / "per_user.parquet", compression="zstd", statistics=False)
    tables = [{"table": table, "bytes": table_bytes(table, 1 + data.n_items, spec)} for table in TABLES]
    report(why, found, tables)
    line, metrics = found_line(model.n_parameters, kept.history)
    line += f", {teacher.n_parameters / model.n_parameters:.1f} times smaller than the teacher; {why}"
    metrics |= {"params_ratio": teacher.n_parameters / model.n_parameters}
    kept_of = {row["arm"]: row["retention"] for row in found["arms"]}
    if all(kept_of.values()):
        line += "; of the teacher's NDCG@10 " + ", ".join(f"{a} {r['value']:.0%}" for a, r in kept_of.items())
        line += f" on {found['n']:,} test users"
        metrics |= {f"retention_{arm.replace('-', '_')}": r["value"] for arm, r in kept_of.items()}
    return Summary(line, metrics)


def student_spec(teacher: ModelSpec, params: Params) -> ModelSpec:
    """The student's shape.

    Raises:
        BadConfiguration: the heads do not divide the width, or the ID vectors are wider than the model.
    """
    from dataclasses import replace

    from pipeline.models.item_table import CODES, FACTORS, INT8
    from pipeline.models.spec import uniform_layers

    if params.width % params.heads:
        raise BadConfiguration(
            f"distill.heads is {params.heads}, which does not divide distill.width {params.width}; choose heads that do"
        )
    if params.id_width > params.width:
        raise BadConfiguration(
            f"distill.id_width is {params.id_width}, more than distill.width {params.width}; at most the width"
        )
    if params.table == CODES and params.id_width % params.id_parts:
        raise BadConfiguration(
            f"distill.id_parts is {params.id_parts}, which does not divide distill.id_width {params.id_width}"
        )
    if params.ranking and not params.top:
        raise BadConfiguration(
            f"distill.ranking is {params.ranking:g} and distill.top is 0: there is no order to learn; say how many "
            "items with distill.top"
        )
    return replace(
        teacher,
        width=params.width,
        head_width=params.width // params.heads,
        layers=uniform_layers(params.layers, params.heads, 4 * params.width),
        id_width=params.id_width,
        members=1,
        attribute_buckets=params.attribute_buckets,
        profile_buckets=params.profile_buckets,
        dropout=params.dropout,
        id_dropout=params.id_dropout,
        relative_time=False,  # a served graph is asked with items; what times and events say, the teacher teaches
        events=(),
        newcomer=False,  # what the teacher was calibrated to, the student learns from its opinions
        newcomer_likeness=1.0,
        kept_places=0,
        similarity=teacher.similarity if params.similarity else 0.0,
        # bytes are made of floats, after training
        table=FACTORS if params.table == INT8 else params.table,
        id_parts=params.id_parts,
        id_codes=params.id_codes,
        id_alone=params.id_alone,
    )
