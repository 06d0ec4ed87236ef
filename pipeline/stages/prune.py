"""prune@T: remove heads and feed-forward channels physically, recover, export to ONNX.

    warmstart stage prune --target harbour

Recovery is distillation from the dense student; then new items are set among the others
(pipeline/transfer/newcomers.py). The exported graph is checked against torch before it is published.
"""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import Field

from pipeline.exit_codes import BadConfiguration
from pipeline.runs.contract import Folders, Job, StageParams, Summary
from pipeline.training.plan import Plan

log = logging.getLogger(__name__)

CALIBRATION_BATCHES = 16


class Params(StageParams):
    """Parameters of pruning, recovery and export."""

    seed: int = Field(description="of every random draw")
    keep_channels: float = Field(gt=0, le=1, description="share of each layer's feed-forward channels that stays")
    keep_heads: float = Field(gt=0, le=1, description="share of each layer's attention heads that stays")
    recovery_epochs: int = Field(ge=0, description="passes of recovery at most")
    max_steps: int = Field(default=0, ge=0, description="steps of recovery at most, in whole epochs; 0 is no limit")
    learning_rate: float = Field(gt=0, description="of AdamW in recovery")
    weight_decay: float = Field(default=0.05, ge=0, description="of AdamW in recovery")
    batch_users: int = Field(default=64, ge=1, description="sequences of a batch")
    temperature: float = Field(default=2.0, gt=0, description="T of the dense student's opinion in recovery")
    weight: float = Field(default=1.0, ge=0, description="λ of the dense student's opinion in recovery")
    full_softmax_items: int = Field(
        default=5000, ge=0, description="catalogues up to this size are scored whole in training"
    )
    sampled_items: int = Field(default=2048, ge=1, description="uniform draws per batch for larger catalogues")
    validation_users: int = Field(default=5000, ge=1, description="validation rows that are ranked")
    newcomer_loss: float | None = Field(
        default=0.02,
        ge=0,
        lt=1,
        description="share of NDCG@10 that new items may cost the others; null: not set",
    )
    top_k: int = Field(ge=1, description="items that one call of the served model returns")


def run(inputs: Folders, outputs: Folders, params: Params, job: Job) -> Summary:
    """Make the served model.

    Raises:
        BadConfiguration: a layer would keep no head or no channel, or the loss became NaN.
    """
    import numpy as np

    from pipeline.compression.agreement import check_agreement, check_item_encoder
    from pipeline.compression.catalogue import write_catalogue
    from pipeline.compression.distill import Taught
    from pipeline.compression.export import export_item_encoder, export_onnx
    from pipeline.compression.golden import golden_request
    from pipeline.compression.importance import taylor_importance
    from pipeline.compression.new_items import ITEM_ENCODER
    from pipeline.compression.prune import Removed, least_important, without
    from pipeline.compression.served_model import MODEL
    from pipeline.data.training_set import load_domain
    from pipeline.features.whitening import WHITENING
    from pipeline.training.batches import EpochBatches
    from pipeline.training.domains import open_domain
    from pipeline.training.loop import fit
    from pipeline.training.next_item import NextItem
    from pipeline.training.randomness import make_deterministic
    from pipeline.training.report_line import found_line
    from pipeline.training.scoring import Validation
    from pipeline.training.weights import load_model, save_model, write_history
    from pipeline.transfer.newcomers import calibrated

    assert job.target is not None
    name, out = f"prune@{job.target}", outputs["models/served"]
    dense = load_model(inputs["models/student"])
    device = make_deterministic(job.threads, dense.spec.width)
    dense = dense.to(device)
    data = load_domain(inputs["data/training"], job.target)
    domain = open_domain(data, inputs["data/item_vectors"], dense.spec, device)
    history: list[dict[str, float]] = []
    noticed: dict[str, float] = {}  # of new items
    if len(data.items) == 0:
        removed = [Removed((), ()) for _ in dense.spec.layers]
        model, why = dense, f"; {job.target} has no training interactions to calibrate with: nothing is removed"
    else:
        task = NextItem([domain], params.full_softmax_items, params.sampled_items)
        batches = EpochBatches([domain.training], params.seed, 0, dense.spec.max_length, params.batch_users)
        calibration = [batches[i] for i in range(min(CALIBRATION_BATCHES, len(batches)))]
        try:
            removed = least_important(
                taylor_importance(dense, calibration, task), params.keep_heads, params.keep_channels
            )
        except ValueError as error:
            raise BadConfiguration(f"{name}: {error}; raise prune.keep_heads or prune.keep_channels") from error
        model, why = without(dense, removed), ""
        log.info("%s: %s of %s parameters stay", name, f"{model.n_parameters:,}", f"{dense.n_parameters:,}")
        if params.recovery_epochs:
            validation = Validation([domain], params.validation_users, params.seed)
            loss = Taught(task, dense, domain, params.weight, params.temperature)
            history = fit(model, [domain.training], loss, validation, _plan(name, params), job.scratch / "prune")
    if params.newcomer_loss is not None and len(data.items):
        model, newcomers = calibrated(model, domain, params.newcomer_loss, params.validation_users, params.seed)
        why += f"; {newcomers.sentence}" if newcomers else ""
        noticed = newcomers.figures if newcomers else {}
    graph = export_onnx(model, domain, params.top_k, out / MODEL)
    export_item_encoder(model, out / ITEM_ENCODER)
    popularity = np.bincount(np.asarray(data.items), minlength=data.n_items + 1)
    write_catalogue(out, data.item_ids, data.item_attributes, popularity, graph.vectors.numpy())
    shutil.copyfile(inputs["data/item_vectors"] / WHITENING, out / WHITENING)
    served = {
        "domain": job.target,
        "n_items": data.n_items,
        "top_k": graph.top_k,
        "parameters": graph.n_numbers,
    }
    about = {
        "stage": "prune",
        "target": job.target,
        "seed": params.seed,
        "served": served,
        "serving": what_a_server_knows(inputs["data/training"], inputs["data/item_vectors"]),
        "golden": golden_request(graph, data, model.spec.max_length),
    }
    save_model(out, model.cpu(), about)
    (out / "removed_channels.json").write_text(
        json.dumps({"layers": [asdict(layer) for layer in removed]}, sort_keys=True) + "\n", "utf-8"
    )
    write_history(out, history)
    checked = check_agreement(graph, out, data)
    check_item_encoder(model, out, domain)
    found, metrics = found_line(model.n_parameters, history)
    size = (out / MODEL).stat().st_size
    found += f", {size / 2**20:.2f} MB of ONNX, torch and ONNX Runtime agree on {checked:,} users{why}"
    return Summary(found, {**metrics, **noticed, "bytes": size})


def what_a_server_knows(training: Path, item_vectors: Path) -> dict[str, Any]:
    """`serving` of model.json: what turns a user's and an item's features into the numbers this model was trained on.

    Raises:
        BadConfiguration: the training set does not say it.
    """
    dataset = json.loads((training / "dataset.json").read_text("utf-8"))
    vectors = json.loads((item_vectors / "vectors.json").read_text("utf-8"))
    same = ("project", "pseudonyms", "clock", "protocol", "events", "half_life_days", "history_length")
    missing = [key for key in ("name", *same) if key not in dataset]
    if missing:
        raise BadConfiguration(f"{training / 'dataset.json'} does not say {', '.join(missing)}; run snapshot again")
    return {
        "dataset": dataset["name"],
        **{key: dataset[key] for key in same},
        "domains": list(dataset["domains"]),
        "value_scales": {name: about["value_scale"] for name, about in dataset["domains"].items()},
        "encoder": vectors["encoder"],
    }


def _plan(name: str, params: Params) -> Plan:
    return Plan(
        name=name,
        seed=params.seed,
        epochs=params.recovery_epochs,
        max_steps=params.max_steps,
        learning_rate=params.learning_rate,
        weight_decay=params.weight_decay,
        batch_users=params.batch_users,
        patience=params.recovery_epochs,
        judge_start=True,
    )
