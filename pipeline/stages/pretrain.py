"""pretrain: one large sequential model on all source domains, the backbone of every target.

    warmstart stage pretrain

Reads `data/training` and `data/item_vectors`; writes `models/backbone`. With `pretrain.warm_start=champion` it goes on
from the champion's backbone, on what is new and a replay of what is not (pipeline/training/warm_start.py).
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Literal

from pydantic import Field

from pipeline.exit_codes import BadConfiguration, DataBrokeContract
from pipeline.runs.contract import Folders, Job, Summary
from pipeline.training.meta_params import MetaParams

log = logging.getLogger(__name__)


class Params(MetaParams):
    """Parameters of the backbone and of its training."""

    width: int = Field(ge=4, description="of item vectors and of the trunk, of each member")
    layers: int = Field(ge=1, description="Transformer layers")
    heads: int = Field(ge=1, description="attention heads of a layer; must divide the width")
    members: int = Field(
        default=1,
        ge=1,
        description="trunks side by side that learn apart; scores are their mean",
    )
    recency: bool = Field(
        default=False, description="add decayed means of the history to the states; for shops where alike follows alike"
    )
    similarity: bool = Field(
        default=False, description="add the likeness in content to the scores, by a weight chosen on validation rows"
    )
    positions: Literal["learned", "rotary"] = Field(default="learned", description="a table, or turns of the heads")
    feed_forward: Literal["gelu", "swiglu"] = Field(default="gelu", description="of a layer")
    residual_gates: bool = Field(default=False, description="what a layer adds passes a gate that reads the stream")
    fusion: Literal["sum", "gates", "decision"] = Field(
        default="sum",
        description="of the content vectors of an item; gates: each counts by what it says; decision: each is scored",
    )
    relative_time: bool = Field(
        default=False, description="how long ago an item was taken is a bias of attention; where clocks are real"
    )
    events: bool = Field(default=False, description="add event type and value of an interaction to its item")
    user_state: bool = Field(
        default=False, description="adapt the states to each user by a ridge regression on what the user has taken"
    )
    max_length: int = Field(ge=1, description="interactions of a history that are read, the latest ones")
    item_statistics: bool = Field(
        default=True, description="read the items' point-in-time statistics; they are those at the end of training"
    )
    dropout: float = Field(ge=0, lt=1, description="on embeddings and layers")
    id_dropout: float = Field(ge=0, lt=1, description="chance that an item is trained by content alone")
    attribute_gain: float = Field(default=1.0, gt=0, description="how loud the attributes of an item are in it")
    attribute_buckets: int = Field(default=4096, ge=1, description="rows of the hashed table of item attributes")
    profile_buckets: int = Field(default=256, ge=1, description="rows of the hashed table of user attributes")
    compile: bool = Field(default=False, description="torch.compile of what reads the sequences; on a GPU only")
    temperature: float = Field(
        default=0.7, ge=0, le=1, description="1 draws domains by size, 0 draws all domains equally often"
    )
    contrastive: float = Field(
        default=0.0, ge=0, description="weight of the contrast of states and contents across domains; 0 is none"
    )
    attribute_prediction: float = Field(
        default=0.0, ge=0, description="weight of predicting the attributes of the next item; 0 is none"
    )
    warm_start: Literal["none", "champion"] = Field(
        default="none", description="champion: continue from the last champion's backbone, if there is one"
    )
    start: str | None = Field(
        default=None, description="md5 of the backbone to continue from; written when a run is opened"
    )
    warm_epochs: int = Field(default=2, ge=1, description="passes of a warm start at most")
    warm_learning_rate: float = Field(default=0.0005, gt=0, description="of a warm start")
    replay: float = Field(
        default=0.3, ge=0, le=1, description="share of users without anything new that a warm start trains on again"
    )


def run(inputs: Folders, outputs: Folders, params: Params, job: Job) -> Summary:
    """Train the backbone.

    Raises:
        BadConfiguration: no domain is a source, the heads do not divide the width or are of odd width with
            rotary positions, episodes are asked for with times or events, the loss became NaN, or the backbone to
            continue from is gone or of another shape.
        DataBrokeContract: the sources have no training interaction at all.
    """
    import torch

    from pipeline.data.training_set import load_dataset, load_domain
    from pipeline.models.recommender import SequentialRecommender
    from pipeline.models.spec import ModelSpec, uniform_layers
    from pipeline.settings import settings
    from pipeline.training.beside import with_objectives
    from pipeline.training.domains import modalities, open_domain
    from pipeline.training.loop import fit
    from pipeline.training.meta import counted_on, learn_start
    from pipeline.training.next_item import NextItem
    from pipeline.training.randomness import make_deterministic, seed_torch
    from pipeline.training.report_line import found_line
    from pipeline.training.scoring import Validation
    from pipeline.training.similarity import WHILE_TRAINING, choose_similarity
    from pipeline.training.warm_start import UP_TO, continue_from, fetch, learned_up_to, to_replay, write_items
    from pipeline.training.weights import save_model, write_history

    if params.width % params.heads:
        raise BadConfiguration(
            f"pretrain.heads is {params.heads}, which does not divide pretrain.width {params.width}; "
            "choose heads that do"
        )
    training, vectors = inputs["data/training"], inputs["data/item_vectors"]
    dataset = load_dataset(training)
    names = [name for name, about in dataset["domains"].items() if "source" in about["role"]]
    if not names:
        raise BadConfiguration(
            f"no domain of the dataset {dataset['name']!r} has the role source, so there is nothing to pretrain on; "
            "give a domain of dataset.yaml `role: source` (a single domain may be source and target)"
        )
    data = [load_domain(training, name) for name in sorted(names)]
    data = [domain for domain in data if len(domain.items)]
    if not data:
        raise DataBrokeContract(
            f"none of the source domains {', '.join(names)} has a training interaction before the validation period; "
            "look at the split in features.validation_share and features.test_share, or at as_of"
        )
    head_width = params.width // params.heads
    if params.positions == "rotary" and head_width % 2:
        raise BadConfiguration(
            f"pretrain.positions is rotary, which turns pairs of coordinates, and a head is {head_width} wide; choose "
            "pretrain.width and pretrain.heads so that it is even"
        )
    if params.meta != "none" and (params.relative_time or params.events):
        raise BadConfiguration(
            f"pretrain.meta is {params.meta}, whose tasks come without times and events; set it to none, or set "
            "pretrain.relative_time and pretrain.events to false"
        )
    if params.members > 1 and params.fusion == "decision":
        raise BadConfiguration(
            f"pretrain.members is {params.members}, and pretrain.fusion=decision weighs the parts of one "
            "score; set pretrain.members to 1, or pretrain.fusion to sum or gates"
        )
    width = params.members * params.width
    device = make_deterministic(job.threads, width)
    kinds = modalities(vectors)
    spec = ModelSpec(
        width=width,
        head_width=head_width,
        layers=uniform_layers(params.layers, params.heads, 4 * params.width),
        max_length=params.max_length,
        recency=params.recency,
        positions=params.positions,
        feed_forward=params.feed_forward,
        residual_gates=params.residual_gates,
        fusion=params.fusion,
        user_state=params.user_state,
        relative_time=params.relative_time and dataset["clock"] == "real",
        events=tuple(dataset["events"]) if params.events else (),
        similarity=WHILE_TRAINING if params.similarity and kinds else 0.0,
        id_width=width,
        members=params.members,
        attribute_buckets=params.attribute_buckets,
        attribute_gain=params.attribute_gain,
        profile_buckets=params.profile_buckets,
        modalities=kinds,
        item_features=data[0].item_feature_names if params.item_statistics else (),
        profile_features=data[0].profile_feature_names,
        domains=tuple((domain.name, domain.n_items) for domain in data),
        dropout=params.dropout,
        id_dropout=params.id_dropout,
    )
    domains = [open_domain(domain, vectors, spec, device) for domain in data]
    seed_torch(params.seed, "pretrain", "weights")
    model = SequentialRecommender(spec)
    start = fetch(settings(), params.start, job.scratch / "start") if params.start else None
    if start is not None:
        on_cpu = [open_domain(domain, vectors, spec, torch.device("cpu")) for domain in data]
        continue_from(start, model, on_cpu)
    model = model.to(device)
    validation = Validation(domains, params.validation_users, params.seed)
    log.info(
        "backbone of %s parameters on %s; %s validation rows",
        f"{model.n_parameters:,}", device, f"{validation.n_rows:,}",
    )  # fmt: skip
    if params.relative_time and not spec.relative_time:
        log.info("%s has an order and no clock: relative_time is left out", dataset["name"])
    plan = replace(params.plan("pretrain", params.temperature), compiled=params.compile)
    sequences = [d.training for d in domains]
    if start is not None:
        plan = replace(plan, epochs=params.warm_epochs, learning_rate=params.warm_learning_rate, judge_start=True)
        sequences = to_replay(domains, start, params.replay, params.seed)
    task = NextItem(domains, params.full_softmax_items, params.sampled_items, params.gbce)
    loss = with_objectives(task, domains, params.contrastive, params.attribute_prediction)
    history = fit(model, sequences, loss, validation, plan, job.scratch / "pretrain")
    rows = history
    if params.meta != "none":
        plan = params.meta_plan("pretrain", params.temperature)
        rows = counted_on(history, learn_start(model, domains, sequences, loss, params, plan, job.scratch / "meta"))
    choose_similarity("pretrain", model, validation)
    out = outputs["models/backbone"]
    about = {"stage": "pretrain", "seed": params.seed, UP_TO: learned_up_to(domains), "start": params.start}
    save_model(out, model, about)
    write_items(out, model, domains)
    write_history(out, rows)
    found, metrics = found_line(model.n_parameters, history)
    found += f"; continued from {params.start[:12]}" if params.start else ""
    if params.meta != "none":
        found += f"; then {params.meta_epochs} epochs of {params.meta}, for what comes after some steps on a target"
    return Summary(f"{', '.join(spec.domain_names)}: {found}", metrics)
