"""Build the feature tables, and join them point-in-time to what the models train on.

    python -m pipeline stage features

Writes `data/features` (the tables behind every view of `feature_repo`) and `data/training` (sequences, held-out
rows, and the features of items and users as they were known when they may be used).
"""

from __future__ import annotations

import difflib
import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import Field

from pipeline.data.indexing import index_rows, training_sequences
from pipeline.data.partitions import read_rows
from pipeline.data.schema import NEGATIVE_EVENTS, write_table
from pipeline.data.sequences import write_sequences
from pipeline.data.splits import (
    Cuts,
    DropOverlap,
    drop_overlapping_users,
    holdout_table,
    split_leave_one_out,
    split_temporal,
    temporal_cuts,
)
from pipeline.exit_codes import BadConfiguration
from pipeline.features.definitions import applied_definitions
from pipeline.features.model_inputs import (
    ITEM_FEATURES,
    profile_feature_names,
    value_scale,
)
from pipeline.features.store import open_store, project_name
from pipeline.features.tables import write_feature_tables
from pipeline.features.training_tables import item_entities, item_table, user_entities, user_table
from pipeline.runs.contract import Folders, Job, StageParams, Summary

log = logging.getLogger(__name__)
SERVICES = ("users", "activity", "items")  # what is asked of Feast here


class Params(StageParams):
    """Parameters of `features`."""

    targets: list[str] = Field(description="the domains to recommend for")
    history_length: int = Field(50, ge=1, le=1000, description="interactions in a user's online history")
    validation_share: float = Field(
        0.1, gt=0, lt=0.5, description="temporal protocol: share of the time range before the test period"
    )
    test_share: float = Field(0.1, gt=0, lt=0.5, description="temporal protocol: the last share of the time range")
    half_life_days: float = Field(
        30.0, gt=0, description="after so many days an interaction counts half in an item's recent interactions"
    )
    drop_overlap: DropOverlap = Field(
        "auto",
        description="leave users of a target out of the sources: always, never, or auto (where an order stands "
        "in for the clock, so that their rows there may come from the future)",
    )


def run(inputs: Folders, outputs: Folders, params: Params, job: Job) -> Summary:
    """See the module."""
    valid, features, training = inputs["data/valid"], outputs["data/features"], outputs["data/training"]
    dataset = json.loads((valid / "dataset.json").read_text("utf-8"))
    roles = {name: about["role"] for name, about in dataset["domains"].items()}
    _refuse_unknown_targets(params.targets, roles)
    items = {name: read_rows(valid / name, "items") for name in roles}
    interactions = drop_overlapping_users(
        {name: _positive(read_rows(valid / name, "interactions")) for name in roles},
        roles,
        params.drop_overlap,
        dataset["protocol"],
        dataset["clock"],
    )
    cuts = temporal_cuts(interactions, params.validation_share, params.test_share)
    rows = {
        name: _split(index_rows(frame, items[name], name), dataset["protocol"], cuts)
        for name, frame in interactions.items()
    }
    del interactions

    log.info("feature tables of %s interactions", f"{sum(frame.height for frame in rows.values()):,}")
    write_feature_tables(
        features,
        {name: _may_be_known(frame, dataset["protocol"]) for name, frame in rows.items()},
        {name: read_rows(valid / name, "users") for name in roles},
        params.history_length,
        params.half_life_days,
    )
    definitions = applied_definitions()
    known = {"name": dataset["name"], "domains": list(roles), "definitions": definitions}
    (features / "dataset.json").write_text(json.dumps(known, indent=2) + "\n", "utf-8")
    log.info("Feast: applying the feature repository, joining point-in-time")
    job.scratch.mkdir(parents=True, exist_ok=True)
    registry = job.scratch / "registry.db"  # with timestamps: no output
    registry.unlink(missing_ok=True)
    store = open_store(features, project_name(dataset["name"]), str(registry))
    scales = {name: value_scale(frame.filter(pl.col("part") == "train")["value"]) for name, frame in rows.items()}
    events = sorted({event for frame in rows.values() for event in frame["event"].unique()})
    cut = _end_of_training(dataset["protocol"], cuts, rows)
    entities = hashlib.md5(usedforsecurity=False)
    for name, frame in rows.items():
        folder = training / name
        starts, asked = user_entities(frame), item_entities(items[name], name, cut)
        for table in (starts, asked):
            entities.update(_bytes_of(table, job.scratch))
        write_sequences(folder / "sequences", training_sequences(frame, events))
        write_table(holdout_table(frame, events), folder / "holdout.parquet")
        write_table(user_table(store, starts, scales, dataset["clock"]), folder / "users.parquet")
        write_table(
            item_table(store, frame, items[name], asked, scales[name], params.half_life_days),
            folder / "items.parquet",
        )
        log.info("%s: %s", name, _brief(frame, items[name]))
    domains = {name: _about(frame, items[name]) | {"role": roles[name]} for name, frame in rows.items()}
    described = {
        **dataset,
        "project": project_name(dataset["name"]),
        "half_life_days": params.half_life_days,
        "history_length": params.history_length,
        "domains": {name: about | {"value_scale": scales[name]} for name, about in domains.items()},
        "targets": params.targets,
        "events": events,
        "item_features": list(ITEM_FEATURES),
        "profile_features": list(profile_feature_names(list(roles), dataset["clock"])),
        "cuts": asdict(cuts) if cuts and dataset["protocol"] == "temporal" else None,
    }
    (training / "dataset.json").write_text(json.dumps(described, indent=2, sort_keys=True) + "\n", "utf-8")
    facts = {**definitions, "service": ", ".join(SERVICES), "entities": entities.hexdigest()}
    return replace(_summary(rows, params.targets), facts={"features": facts})


def _refuse_unknown_targets(targets: list[str], roles: Mapping[str, list[str]]) -> None:
    known = [name for name, role in roles.items() if "target" in role]
    for target in targets:
        if target not in known:
            near = difflib.get_close_matches(target, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"targets of this dataset: {', '.join(known)}"
            raise BadConfiguration(f"targets names {target!r}, which is no target of this dataset; {hint}")


def _split(rows: pl.DataFrame, protocol: str, cuts: Cuts | None) -> pl.DataFrame:
    if protocol == "leave_one_out" or cuts is None:
        return split_leave_one_out(rows)
    return split_temporal(rows, cuts)


def _positive(interactions: pl.DataFrame) -> pl.DataFrame:
    """What a user took: neither sequences nor statistics may tell a model to repeat what was refused."""
    return interactions.filter(~pl.col("event").is_in(NEGATIVE_EVENTS))


def _bytes_of(table: pl.DataFrame, scratch: Path) -> bytes:
    """The rows in the one spelling that a table has here, for its hash."""
    path = scratch / "entities.parquet"
    write_table(table, path)
    return path.read_bytes()


def _may_be_known(rows: pl.DataFrame, protocol: str) -> pl.DataFrame:
    """The rows the feature tables may contain: under leave-one-out a held-out row is the future by definition."""
    return rows.filter(pl.col("part") == "train") if protocol == "leave_one_out" else rows


def _end_of_training(protocol: str, cuts: Cuts | None, rows: Mapping[str, pl.DataFrame]) -> int:
    """Microseconds UTC up to which item statistics may know: they are the same for every sequence."""
    if protocol == "temporal" and cuts is not None:
        return cuts.validation - 1
    known = [
        frame.select(pl.max_horizontal("created_at", "timestamp").max().to_physical()).item() for frame in rows.values()
    ]
    return max((moment for moment in known if moment is not None), default=0)


def _about(rows: pl.DataFrame, items: pl.DataFrame) -> dict[str, Any]:
    return {
        "n_items": items.height,
        "n_users": rows["user_index"].n_unique(),
        "n_interactions": rows.filter(pl.col("part") == "train").height,
    }


def _brief(rows: pl.DataFrame, items: pl.DataFrame) -> str:
    parts = dict(rows["part"].value_counts().iter_rows())
    return f"{rows['user_index'].n_unique():,} users, {items.height:,} items, " + ", ".join(
        f"{parts.get(part, 0):,} {part}" for part in ("train", "validation", "test")
    )


def _summary(rows: Mapping[str, pl.DataFrame], targets: list[str]) -> Summary:
    counts = {name: dict(frame["part"].value_counts().iter_rows()) for name, frame in rows.items()}
    metrics = {
        f"{name}_{part}": float(count.get(part, 0))
        for name, count in counts.items()
        for part in ("train", "validation", "test")
    }
    trained = sum(count.get("train", 0) for count in counts.values())
    judged = ", ".join(f"{target} {counts[target].get('test', 0):,}" for target in targets)
    return Summary(found=f"{trained:,} training interactions; test users: {judged}", metrics=metrics)
