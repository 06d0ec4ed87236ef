"""transfer@T: fine-tune the backbone on a target domain; the teacher.

    warmstart stage transfer --target harbour

Shared parts start from the backbone, ID vectors are the target's own. `transfer.arms` names the ways to fine-tune that
are tried (pipeline/transfer/strategies.py); with `scratch` among them the backbone has to show that it helps, and
where it does not, what was trained from nothing is kept. A target without a single interaction keeps the backbone as
it is: its items are ranked by content, its users by profile (zero-shot). At the end new items are set among the others
(pipeline/transfer/newcomers.py). Sequences that `augment` feeds in train beside the real ones; validation is real.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.runs.contract import Folders, Job, Summary
from pipeline.transfer.params import TransferParams

if TYPE_CHECKING:
    import torch

    from pipeline.models.spec import ModelSpec
    from pipeline.training.domains import Domain

log = logging.getLogger(__name__)


class Params(TransferParams):
    """Parameters of fine-tuning."""


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
    from pipeline.training.randomness import make_deterministic, seed_torch
    from pipeline.training.report_line import found_line
    from pipeline.training.scoring import Validation
    from pipeline.training.similarity import choose_similarity
    from pipeline.training.weights import load_model, save_model, write_history
    from pipeline.transfer.arms import FineTuning
    from pipeline.transfer.choosing import choose
    from pipeline.transfer.common_ground import shares_nothing
    from pipeline.transfer.newcomers import calibrated
    from pipeline.transfer.params import SCRATCH
    from pipeline.transfer.report import write_report
    from pipeline.transfer.tasks.comparison import compared, metrics, sentence
    from pipeline.transfer.tasks.params import MULTI_TASK
    from pipeline.transfer.transferability import known_before, unjudged
    from pipeline.transfer.user_states import chosen_user_states

    assert job.target is not None
    backbone = load_model(inputs["models/backbone"])
    device = make_deterministic(job.threads, backbone.spec.width)
    backbone = backbone.to(device)
    data = load_domain(inputs["data/training"], job.target)
    domain = open_domain(data, inputs["data/item_vectors"], backbone.spec, device)
    name = f"transfer@{job.target}"
    out = outputs["models/teacher"]
    about: dict[str, Any] = {"stage": "transfer", "target": job.target, "seed": params.seed}
    page: dict[str, Any] = {"target": job.target, "arms": {}, "popular": {}, "tasks": [], "notes": []}
    validation = Validation([domain], params.validation_users, params.seed)
    alone = shares_nothing(inputs["data/training"], inputs["data/item_vectors"], job.target, backbone.spec)
    if len(data.items) == 0:
        seed_torch(params.seed, name, "weights")
        model = adapted(backbone, domain.shape, params.dropout, params.id_dropout).to(device)
        save_model(out, model, {**about, "zero_shot": True})
        write_history(out, [])
        found = f"{job.target} has no training interactions: zero-shot, the teacher is the backbone as it is"
        if nothing_known(domain):
            found += "; no item has a vector or an attribute, so all of them score alike"
        elif alone:
            found += f"; {alone}: their order says nothing"
        write_report(outputs["reports/transfer"], page | {"found": found})
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
    sources = sources_of(inputs, job.target, backbone.spec, device) if params.replay else []
    plan = params.plan(name, judge_start=True)
    tuning = FineTuning(backbone, more, training, sources, validation, params, plan)
    arms = params.arms if validation.n_rows else params.arms[:1]
    if params.replay and not tuning.sources:
        page["notes"].append(
            f"transfer.replay is {params.replay:g}, and beside {job.target} no source is here to replay"
        )
    if alone:
        arms = (SCRATCH,)
        page["notes"].append(f"{alone}: trained from scratch")
    for note in page["notes"]:
        log.warning("%s: %s", name, note)
    trained = {arm: tuning.train(arm, job.scratch / "transfer") for arm in arms}
    shares: dict[str, float] = {}
    for arm in [arm for arm in arms if params.fuse and arm != SCRATCH]:
        model, history = trained[arm]
        model, shares[arm] = tuning.mix_with_backbone(model)
        trained[arm] = model, history
    judged = {arm: next(iter(validation.per_user(model)), None) for arm, (model, _) in trained.items()}
    choice = choose(judged, params.confidence, params.seed)
    log.info("%s: %s", name, choice.sentence)
    model, history = trained[choice.kept]
    about |= choice.about | ({"fused": shares[choice.kept]} if choice.kept in shares else {})
    choose_similarity(name, model, validation)
    model, users = chosen_user_states(model, domain, params.validation_users, params.seed)
    newcomers = None
    if params.newcomer_loss is not None:
        model, newcomers = calibrated(
            model, domain, params.newcomer_loss, params.validation_users, params.seed, params.newcomer_places
        )
    save_model(out, model, {**about, "zero_shot": False})
    write_history(out, history)
    found, figures = found_line(model.n_parameters, history)
    if len(params.arms) > 1 and not alone:
        found += f"; {choice.sentence}"
        known = {} if unjudged(domain) else known_before(backbone, domain, params.validation_users, params.seed)
        figures |= choice.figures | known
    found += "".join(f"; {note}" for note in page["notes"])
    if MULTI_TASK in trained and tuning.tasks[0]:
        page["tasks"] = compared(tuning, trained[MULTI_TASK][1], job.scratch / "transfer")
        found += f"; {sentence(page['tasks'])}"
        figures |= metrics(page["tasks"])
    if MULTI_TASK in trained:
        page["notes"] += tuning.tasks[1]
    if choice.kept in shares:
        found += f"; {shares[choice.kept]:.0%} of it, the rest the backbone"
    if users is not None:
        found += f"; {users.sentence}"
        figures |= users.figures
    if newcomers is not None:
        found += f"; {newcomers.sentence}"
        figures |= newcomers.figures
    if rows is not None:
        found += f"; {len(rows.items):,} made rows beside the real ones"
        figures["synthetic_rows"] = len(rows.items)
    page |= {"found": found, "arm": choice.kept, "arms": choice.about.get("arms", {}), "popular": tuning.popular}
    write_report(outputs["reports/transfer"], page)
    return Summary(found, figures)


def sources_of(inputs: Folders, target: str, spec: ModelSpec, device: torch.device) -> list[Domain]:
    """The sources but the target itself, opened for the backbone."""
    from pipeline.data.training_set import load_dataset, load_domain
    from pipeline.training.domains import open_domain

    training: Path = inputs["data/training"]
    names = [name for name in spec.domain_names if name != target and name in load_dataset(training)["domains"]]
    return [open_domain(load_domain(training, name), inputs["data/item_vectors"], spec, device) for name in names]


def nothing_known(domain: Domain) -> bool:
    """No item has anything that a backbone could have learned about."""
    known = (*domain.catalogue.content.values(), domain.catalogue.attributes)
    return not any(bool(table.any()) for table in known)
