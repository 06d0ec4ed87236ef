"""transfer@T: fine-tune the backbone on a target domain; the teacher.

    warmstart stage transfer --target harbour

Shared parts start from the backbone, ID vectors are the target's own. A target without a single interaction keeps the
backbone as it is: its items are ranked by content, its users by profile (zero-shot). Sequences that `augment` feeds in
train beside the real ones; validation is real.
"""

from __future__ import annotations

import logging

from pydantic import Field

from pipeline.runs.contract import Folders, Job, Summary
from pipeline.training.plan import LossParams

log = logging.getLogger(__name__)


class Params(LossParams):
    """Parameters of fine-tuning."""

    dropout: float = Field(default=0.2, ge=0, lt=1, description="on embeddings and layers")
    id_dropout: float = Field(default=0.2, ge=0, lt=1, description="chance that an item is trained by content alone")


def run(inputs: Folders, outputs: Folders, params: Params, job: Job) -> Summary:
    """Make the target's teacher.

    Raises:
        BadConfiguration: the backbone or the made sequences belong to another training set, or the loss became NaN.
    """
    from pipeline.augmentation.mixing import mixed
    from pipeline.augmentation.rows import read_rows
    from pipeline.data.training_set import load_domain
    from pipeline.models.inherit import adapted
    from pipeline.training.domains import open_domain
    from pipeline.training.loop import fit
    from pipeline.training.next_item import NextItem
    from pipeline.training.randomness import make_deterministic, seed_torch
    from pipeline.training.report_line import found_line
    from pipeline.training.scoring import Validation
    from pipeline.training.similarity import choose_similarity
    from pipeline.training.weights import load_model, save_model, write_history

    assert job.target is not None
    backbone = load_model(inputs["models/backbone"])
    device = make_deterministic(job.threads, backbone.spec.width)
    backbone = backbone.to(device)
    data = load_domain(inputs["data/training"], job.target)
    domain = open_domain(data, inputs["data/item_vectors"], backbone.spec, device)
    name = f"transfer@{job.target}"
    seed_torch(params.seed, name, "weights")
    model = adapted(backbone, domain.shape, params.dropout, params.id_dropout).to(device)
    out = outputs["models/teacher"]
    about: dict[str, str | int] = {"stage": "transfer", "target": job.target, "seed": params.seed}
    validation = Validation([domain], params.validation_users, params.seed)
    if len(data.items) == 0:
        save_model(out, model, {**about, "zero_shot": True})
        write_history(out, [])
        found = f"{job.target} has no training interactions: zero-shot, the teacher is the backbone as it is"
        return Summary(found, {"parameters": model.n_parameters, "epochs": 0})
    log.info(
        "%s: %s interactions of %s users, %s validation rows",
        name, f"{len(data.items):,}", f"{data.n_users:,}", f"{validation.n_rows:,}",
    )  # fmt: skip
    rows = read_rows(inputs["data/synthetic"], data)
    if rows is not None:
        about["synthetic_rows"] = len(rows.items)
        log.info("%s: %s made sequences beside them", name, f"{len(rows):,}")
    more, training = mixed(domain, rows)
    loss = NextItem([more], params.full_softmax_items, params.sampled_items, params.gbce)
    plan = params.plan(name, judge_start=True)
    history = fit(model, [training], loss, validation, plan, job.scratch / "transfer")
    choose_similarity(name, model, validation)
    save_model(out, model, {**about, "zero_shot": False})
    write_history(out, history)
    found, figures = found_line(model.n_parameters, history)
    if rows is not None:
        found += f"; {len(rows.items):,} made rows beside the real ones"
        figures["synthetic_rows"] = len(rows.items)
    return Summary(found, figures)
