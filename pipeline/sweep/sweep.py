"""The frontier: NDCG@10 that is kept of a teacher, against bytes and against latency, over sizes and methods.

Every point is kept when it is done; a sweep that was killed goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.compression.retained import CONFIDENCE, SAMPLES
from pipeline.data.training_set import load_domain
from pipeline.evaluation.retention import retention
from pipeline.exit_codes import BadConfiguration, DataBrokeContract
from pipeline.runs.attempt import write_json
from pipeline.sweep.frontier import frontier
from pipeline.sweep.grid import EXPORTS, STUDENTS, fits
from pipeline.sweep.points import Figures, Source, figures_of_served, figures_of_torch, make_served, make_student
from pipeline.training.weights import ABOUT

log = logging.getLogger(__name__)

Row = dict[str, Any]


def sweep(source: Source, kept: Path, students: Sequence[str], exports: Sequence[str]) -> Row:
    """Make and measure every combination.

    Args:
        source: the teacher.
        kept: where points stay; the same for the same teacher and parameters.
        students, exports: names of `pipeline.sweep.grid`.

    Returns:
        `target`, `n` test users, `teacher`, and `points` with what each keeps; `by_bytes` and `by_p50_ms` name those on
        the frontier.

    Raises:
        BadConfiguration: a name is not in the grid.
        DataBrokeContract: there are no test users.
    """
    for names, grid, kind in ((students, STUDENTS, "student"), (exports, EXPORTS, "export")):
        unknown = [name for name in names if name not in grid]
        if unknown:
            raise BadConfiguration(f"there is no {kind} {unknown[0]!r} in the sweep; there are {', '.join(grid)}")
    data = load_domain(source.inputs["data/training"], source.target)
    if len(data.holdout("test")) == 0 or len(data.items) == 0:
        lacking = "training interactions" if len(data.holdout("test")) else "test users"
        raise DataBrokeContract(f"{source.target} has no {lacking}: there is nothing to sweep over")
    teacher = figures_of_torch(source, source.inputs["models/teacher"], data)
    points: list[Row] = []
    refused: list[Row] = []
    for student in students:
        folder = kept / _folder(STUDENTS[student])
        try:
            about = make_student(source, STUDENTS[student], folder)
        except BadConfiguration as error:  # an answer too: this one cannot be made
            refused.append({"student": student, "export": "torch", "why": str(error)})
            continue
        arms = {row["arm"]: row["retention"] for row in about["retained"]["arms"]}
        in_torch = figures_of_torch(source, folder / "student", data)
        controls = {"untaught": arms["untaught"], "teacher_sized": arms["teacher-sized"]}
        points.append(_row(student, "torch", in_torch, teacher) | controls)
        for export in (name for name in exports if fits(student, name)):
            log.info("%s, %s", student, export)
            place = folder / _folder(EXPORTS[export])
            try:
                served = make_served(source, folder / "student", EXPORTS[export], place)
            except BadConfiguration as error:
                refused.append({"student": student, "export": export, "why": str(error)})
                continue
            if not (place / "point.json").exists():
                write_json(place / "point.json", _row(student, export, figures_of_served(served, data), teacher))
            points.append(json.loads((place / "point.json").read_text("utf-8")) | controls)
    if not any(row["export"] != "torch" for row in points):
        raise BadConfiguration(f"no point of the sweep can be made; the last: {refused[-1]['why']}")
    served_points = [row for row in points if row["export"] != "torch"]
    found = {
        "target": source.target,
        "n": len(teacher.ndcg),
        "confidence": CONFIDENCE,
        "teacher": _row("teacher", "torch", teacher, teacher),
        "points": points,
        "refused": refused,
    }
    for cost in ("bytes", "p50_ms"):
        best = frontier(served_points, cost, "ndcg10")
        found[f"by_{cost}"] = [f"{served_points[i]['student']}: {served_points[i]['export']}" for i in best]
    return found


def kept_in(home: Path, source: Source) -> Path:
    """Where the points of this teacher and these parameters stay."""
    about = json.loads((source.inputs["models/teacher"] / ABOUT).read_text("utf-8"))
    used = {stage: source.params[stage] for stage in ("distill", "prune")} | {"seed": source.params["seed"]}
    work = hashlib.sha256(json.dumps([about["weights_sha256"], used], sort_keys=True).encode()).hexdigest()
    return home / "sweeps" / f"{source.target}-{work[:16]}"


def _folder(overrides: Sequence[str]) -> str:
    return "-".join(word.partition(".")[2].replace("=", "-") for word in overrides) or "as-configured"


def _row(student: str, export: str, figures: Figures, teacher: Figures) -> Row:
    kept = retention(figures.ndcg, teacher.ndcg, SAMPLES, CONFIDENCE, 7)
    return {
        "student": student,
        "export": export,
        "parameters": figures.parameters,
        "bytes": figures.bytes,
        "p50_ms": round(figures.p50_ms, 4),
        "ndcg10": float(figures.ndcg.mean()),
        "retention": kept.to_json() if kept else None,
    }
