"""prune@T: remove heads, feed-forward channels and more physically, recover, export to ONNX.

    warmstart stage prune --target harbour

Recovery is distillation from the teacher, or from the dense student; then new items are set among the others
(pipeline/transfer/newcomers.py). The exported graph is checked against torch before it is published.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from pipeline.exit_codes import BadConfiguration
from pipeline.runs.contract import Folders, Job, StageParams, Summary
from pipeline.training.plan import Plan
from pipeline.transfer.params import TOP

if TYPE_CHECKING:
    from pipeline.compression.rounds import Wish
    from pipeline.models.recommender import SequentialRecommender

log = logging.getLogger(__name__)

CALIBRATION_BATCHES = 16


class Params(StageParams):
    """Parameters of pruning, recovery and export."""

    seed: int = Field(description="of every random draw")
    keep_channels: float = Field(gt=0, le=1, description="share of each layer's feed-forward channels that stays")
    keep_heads: float = Field(gt=0, le=1, description="share of each layer's attention heads that stays")
    keep_layers: float = Field(default=1.0, gt=0, le=1, description="share of the layers that stays")
    keep_columns: float = Field(
        default=1.0, gt=0, le=1, description="share of a low-rank ID table's columns that stays"
    )
    target: Literal["shares", "parameters", "operations"] = Field(
        default="shares",
        description="shares: as the four above say; else heads and channels go wherever they are least worth their "
        "price in parameters, or in multiplications of a request, which stand for latency",
    )
    keep: float = Field(default=0.5, gt=0, le=1, description="share of all parameters or operations that stays")
    importance: Literal["taylor", "activation"] = Field(default="taylor", description="what tells an important unit")
    masked: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="share of the layers' weights that is zeroed one by one, by size, before the last recovery and "
        "left out of the exported file; a smaller file above 0.67, never a faster model",
    )
    rounds: int = Field(default=1, ge=1, description="of removal and recovery; more are gentler")
    recover_from: Literal["student", "teacher"] = Field(default="teacher", description="whose opinion recovery learns")
    recovery_epochs: int = Field(ge=0, description="passes of recovery at most, of all rounds together")
    max_steps: int = Field(default=0, ge=0, description="steps of recovery at most, in whole epochs; 0 is no limit")
    learning_rate: float = Field(gt=0, description="of AdamW in recovery")
    weight_decay: float = Field(default=0.05, ge=0, description="of AdamW in recovery")
    batch_users: int = Field(default=64, ge=1, description="sequences of a batch")
    temperature: float = Field(default=2.0, gt=0, description="T of that opinion")
    weight: float = Field(default=1.0, ge=0, description="λ of that opinion")
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
    newcomer_places: int = Field(
        default=TOP, ge=1, le=TOP, description="last places of the first ten that a new item may take; 10: any place"
    )
    top_k: int = Field(ge=1, description="items that one call of the served model returns")
    rows: Literal["float32", "int8", "int4", "codes"] = Field(
        default="float32", description="the exported catalogue's numbers; codes: of items that are codes alone"
    )
    scores: Literal["float32", "int8"] = Field(
        default="float32", description="products of a state and the exported catalogue; int8 where its rows are packed"
    )
    linears: Literal["float32", "int8", "int8_weights"] = Field(
        default="float32", description="the exported trunk: int8 computes in integers, int8_weights in floats"
    )


def run(inputs: Folders, outputs: Folders, params: Params, job: Job) -> Summary:
    """Make the served model.

    Raises:
        BadConfiguration: a layer would keep no head or no channel, the target cannot be reached, masks are asked for in
            bytes, integer scores of rows in floats, rounded to bytes the model would answer otherwise, or the loss
            became NaN.
    """
    from pipeline.compression.distill import Lessons, Taught
    from pipeline.compression.importance import activation_importance, taylor_importance
    from pipeline.compression.masks import zero_smallest
    from pipeline.compression.prune import CannotPrune, Removed
    from pipeline.compression.rounds import prune_in_rounds
    from pipeline.compression.served_folder import Export, write_served
    from pipeline.compression.teacher_outputs import TeacherOutputs
    from pipeline.data.training_set import load_domain
    from pipeline.training.batches import EpochBatches
    from pipeline.training.domains import open_domain
    from pipeline.training.loop import fit
    from pipeline.training.next_item import NextItem
    from pipeline.training.randomness import make_deterministic
    from pipeline.training.report_line import found_line
    from pipeline.training.scoring import Validation
    from pipeline.training.weights import load_model, weights_hash, write_history
    from pipeline.transfer.newcomers import calibrated
    from pipeline.transfer.user_states import chosen_user_states

    assert job.target is not None
    name, out = f"prune@{job.target}", outputs["models/served"]
    if params.masked and params.linears != "float32":
        raise BadConfiguration(
            f"prune.masked is {params.masked:g} and prune.linears is {params.linears}: only float32 weights are kept "
            "without their zeros; set prune.masked to 0 or prune.linears to float32"
        )
    if params.scores != "float32" and params.rows == "float32":
        raise BadConfiguration(
            "prune.scores is int8 and prune.rows is float32: rows in floats are given with a request and cannot be "
            "rounded beforehand; set prune.rows to int8, int4 or codes, or prune.scores to float32"
        )
    dense = load_model(inputs["models/student"])
    device = make_deterministic(job.threads, dense.spec.width)
    dense = dense.to(device)
    data = load_domain(inputs["data/training"], job.target)
    domain = open_domain(data, inputs["data/item_vectors"], dense.spec, device)
    history: list[dict[str, float]] = []
    columns: tuple[int, ...] = ()
    noticed: dict[str, float] = {}  # of new items
    if len(data.items) == 0:
        removed = [Removed((), ()) for _ in dense.spec.layers]
        model, why = dense, f"; {job.target} has no training interactions to calibrate with: nothing is removed"
    else:
        task = NextItem([domain], params.full_softmax_items, params.sampled_items)
        batches = EpochBatches([domain.training], params.seed, 0, dense.spec.max_length, params.batch_users)
        calibration = [batches[i] for i in range(min(CALIBRATION_BATCHES, len(batches)))]
        of = {"taylor": taylor_importance, "activation": activation_importance}[params.importance]
        validation = Validation([domain], params.validation_users, params.seed)

        def recover(pruned: SequentialRecommender, round_: int) -> list[dict[str, Any]]:
            if params.masked and round_ == params.rounds:
                zero_smallest(pruned, params.masked)
            plan, scratch = _plan(name, params, round_), job.scratch / f"prune-{round_}"
            return fit(pruned, [domain.training], loss, validation, plan, scratch) if plan else []

        if params.recovery_epochs:
            voice, ears = dense, domain
            if params.recover_from == "teacher":
                voice = load_model(inputs["models/teacher"]).to(device)
                ears = open_domain(data, inputs["data/item_vectors"], voice.spec, device)
            said = TeacherOutputs.of(voice, ears, 0, job.scratch / "said")
            loss = Taught(task, said, domain, Lessons(params.weight, params.temperature))
        try:
            model, removed, columns, history = prune_in_rounds(
                dense, domain.catalogue.trained, _wish(params), lambda m: of(m, calibration, task), recover
            )
        except CannotPrune as error:
            raise BadConfiguration(f"{name}: {error}; raise {_what_to_raise(params)}") from error
        why = ""
    model, users = chosen_user_states(model, domain, params.validation_users, params.seed)
    if users is not None:
        why += f"; {users.sentence}"
        noticed |= users.figures
    if params.newcomer_loss is not None and len(data.items):
        model, newcomers = calibrated(
            model, domain, params.newcomer_loss, params.validation_users, params.seed, params.newcomer_places
        )
        why += f"; {newcomers.sentence}" if newcomers else ""
        noticed |= newcomers.figures if newcomers else {}
    about = {
        "stage": "prune",
        "target": job.target,
        "seed": params.seed,
        "serving": what_a_server_knows(inputs["data/training"], inputs["data/item_vectors"]),
    }
    (out / "removed_channels.json").write_text(
        json.dumps(
            {"layers": [asdict(layer) for layer in removed], "id_columns": columns, "masked": params.masked},
            sort_keys=True,
        )
        + "\n",
        "utf-8",
    )
    write_history(out, history)
    wish = Export(params.top_k, params.rows, params.scores, params.linears, sparse=params.masked > 0)
    metadata = {"domain": job.target, "protocol": data.protocol, "student_sha256": weights_hash(dense)}
    found, metrics = found_line(model.n_parameters, history)
    exported, figures = write_served(model, domain, wish, out, inputs["data/item_vectors"], about, metadata)
    return Summary(f"{found}, {exported}{why}", {**metrics, **noticed, **figures})


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


def _wish(params: Params) -> Wish:
    from pipeline.compression.rounds import Wish

    return Wish(
        heads=params.keep_heads,
        channels=params.keep_channels,
        layers=params.keep_layers,
        target=None if params.target == "shares" else params.target,
        keep=params.keep,
        columns=params.keep_columns,
        rounds=params.rounds,
    )


def _what_to_raise(params: Params) -> str:
    if params.target != "shares":
        return "prune.keep"
    return "prune.keep_heads or prune.keep_channels, or set prune.keep_layers and prune.keep_columns to 1"


def _plan(name: str, params: Params, round_: int) -> Plan | None:
    """Of a round's recovery; None where it has none."""
    epochs = params.recovery_epochs // params.rounds
    if not epochs:
        return None
    return Plan(
        name=name if params.rounds == 1 else f"{name} round {round_}",
        seed=params.seed,
        epochs=epochs,
        max_steps=params.max_steps // params.rounds,
        learning_rate=params.learning_rate,
        weight_decay=params.weight_decay,
        batch_users=params.batch_users,
        patience=epochs,
        judge_start=True,
    )
