"""pretrain: one large sequential model on all source domains, the backbone of every target.

    warmstart stage pretrain

Reads `data/training` and `data/item_vectors`; writes `models/backbone`.
"""

from __future__ import annotations

import logging

from pydantic import Field

from pipeline.exit_codes import BadConfiguration, DataBrokeContract
from pipeline.runs.contract import Folders, Job, Summary
from pipeline.training.plan import TrainingParams

log = logging.getLogger(__name__)


class Params(TrainingParams):
    """Parameters of the backbone and of its training."""

    width: int = Field(ge=4, description="of item vectors and of the trunk")
    layers: int = Field(ge=1, description="Transformer layers")
    heads: int = Field(ge=1, description="attention heads of a layer; must divide the width")
    max_length: int = Field(ge=1, description="interactions of a history that are read, the latest ones")
    dropout: float = Field(ge=0, lt=1, description="on embeddings and layers")
    id_dropout: float = Field(ge=0, lt=1, description="chance that an item is trained by content alone")
    attribute_buckets: int = Field(default=4096, ge=1, description="rows of the hashed table of item attributes")
    profile_buckets: int = Field(default=256, ge=1, description="rows of the hashed table of user attributes")
    temperature: float = Field(
        default=0.7, ge=0, le=1, description="1 draws domains by size, 0 draws all domains equally often"
    )


def run(inputs: Folders, outputs: Folders, params: Params, job: Job) -> Summary:
    """Train the backbone.

    Raises:
        BadConfiguration: no domain is a source, the heads do not divide the width, or the loss became NaN.
        DataBrokeContract: the sources have no training interaction at all.
    """
    from pipeline.data.training_set import load_dataset, load_domain
    from pipeline.models.recommender import SequentialRecommender
    from pipeline.models.spec import ModelSpec, uniform_layers
    from pipeline.training.domains import modalities, open_domain
    from pipeline.training.loop import fit
    from pipeline.training.next_item import NextItem
    from pipeline.training.randomness import make_deterministic, seed_torch
    from pipeline.training.report_line import found_line
    from pipeline.training.scoring import Validation
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
    device = make_deterministic(job.threads, params.width)
    spec = ModelSpec(
        width=params.width,
        head_width=params.width // params.heads,
        layers=uniform_layers(params.layers, params.heads, 4 * params.width),
        max_length=params.max_length,
        id_width=params.width,
        attribute_buckets=params.attribute_buckets,
        profile_buckets=params.profile_buckets,
        modalities=modalities(vectors),
        item_features=data[0].item_feature_names,
        profile_features=data[0].profile_feature_names,
        domains=tuple((domain.name, domain.n_items) for domain in data),
        dropout=params.dropout,
        id_dropout=params.id_dropout,
    )
    domains = [open_domain(domain, vectors, spec, device) for domain in data]
    seed_torch(params.seed, "pretrain", "weights")
    model = SequentialRecommender(spec).to(device)
    validation = Validation(domains, params.validation_users, params.seed)
    log.info(
        "backbone of %s parameters on %s; %s validation rows",
        f"{model.n_parameters:,}", device, f"{validation.n_rows:,}",
    )  # fmt: skip
    plan = params.plan("pretrain", params.temperature)
    loss = NextItem(domains, params.full_softmax_items, params.sampled_items)
    history = fit(model, [d.training for d in domains], loss, validation, plan, job.scratch / "pretrain")
    out = outputs["models/backbone"]
    save_model(out, model, {"stage": "pretrain", "seed": params.seed})
    write_history(out, history)
    found, metrics = found_line(model.n_parameters, history)
    return Summary(f"{', '.join(spec.domain_names)}: {found}", metrics)
