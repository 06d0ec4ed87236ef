"""What a gate may compare: one model's NDCG@10 on named test users, and which test set and protocol that was.

    challenger = read_evidence(Path("reports/evaluation/harbour"))
    champion = measure(served_folder, data)              # the same users, ranked now
    challenger.models["served"], challenger.test_set == champion.test_set

Two figures may be compared only when both `test_set` and `protocol` are equal; the gate refuses otherwise.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from pipeline.data.sequences import Array
from pipeline.data.training_set import DomainData
from pipeline.evaluation.rank_served import per_user_metrics
from pipeline.exit_codes import DataBrokeContract

SERVED = "served"
GROUP_USERS = 50  # test users that share an attribute, for it to be written down as a user group


@dataclass(frozen=True)
class Evidence:
    """NDCG@10 (seen items masked) of one or more models on the same test users.

    Attributes:
        test_set: sha256 over the test users and their held-out items (`test_set_digest`).
        protocol: how they were ranked (`protocol_of`).
        users: int [n], user_index; only comparable within one `test_set`.
        models: float [n] by name; "served" is the model that would be promoted.
        baselines: names in `models` that are simple baselines.
        slices: bool [n] by name: "user warm", "item cold", "user group segment:student", …
        n_bytes: of the served graph; None when unknown.
    """

    test_set: str
    protocol: str
    users: Array
    models: Mapping[str, Array]
    baselines: tuple[str, ...] = ()
    slices: Mapping[str, Array] = field(default_factory=dict)
    n_bytes: int | None = None


def test_set_digest(data: DomainData) -> str:
    """sha256 over (user id, held-out item id) of every test user, by user id: the same in whatever order they stand."""
    test = data.holdout("test")
    pairs = sorted(
        (data.user_ids[user], data.item_ids[item])
        for user, item in zip(test.user_index.tolist(), test.item_index.tolist(), strict=True)
    )
    return hashlib.sha256("".join(f"{user}\0{item}\n" for user, item in pairs).encode()).hexdigest()


def protocol_of(data: DomainData) -> str:
    """The words that must be equal for two figures to mean the same."""
    return f"{data.protocol}, every item ranked, seen items masked, ties count against, NDCG@10"


def user_groups(data: DomainData) -> list[list[str]]:
    """For each test user the attributes that at least `GROUP_USERS` test users share, sorted; [n]."""
    attributes = [sorted(set(data.user_attributes[user])) for user in data.holdout("test").user_index.tolist()]
    counts: dict[str, int] = {}
    for row in attributes:
        for one in row:
            counts[one] = counts.get(one, 0) + 1
    return [[one for one in row if counts[one] >= GROUP_USERS] for row in attributes]


def measure(served: Path, data: DomainData) -> Evidence:
    """Rank a served model, of whichever run, on today's test users.

    Raises:
        BadConfiguration: the folder is not a served model's.
    """
    table = per_user_metrics(served, data)
    models = {SERVED: table["ndcg10"].to_numpy()}
    return Evidence(test_set_digest(data), protocol_of(data), table["user_index"].to_numpy(), models)


def read_evidence(report: Path) -> Evidence:
    """The evidence of an evaluation: `metrics.json` and `per_user.parquet`.

    Raises:
        DataBrokeContract: the folder does not hold what a gate needs; names what is missing.
    """
    metrics = json.loads((report / "metrics.json").read_text("utf-8"))
    users = pl.read_parquet(report / "per_user.parquet")
    names = {row["name"]: row for row in metrics["models"]}
    for missing in [key for key in ("test_set", "protocol_words") if key not in metrics]:
        raise DataBrokeContract(f"{report / 'metrics.json'} does not say {missing}; run evaluate again")
    for missing in [c for c in (SERVED, "user_index", "user_slice", "item_slice") if c not in users.columns]:
        raise DataBrokeContract(f"{report / 'per_user.parquet'} has no column {missing!r}; run evaluate again")
    return Evidence(
        test_set=metrics["test_set"],
        protocol=metrics["protocol_words"],
        users=users["user_index"].to_numpy(),
        models={name: users[name].to_numpy() for name in names if name in users.columns},
        baselines=tuple(n for n, row in names.items() if row["kind"] == "baseline" and n in users.columns),
        slices=_slices(users),
        n_bytes=names.get(SERVED, {}).get("bytes"),
    )


def _slices(users: pl.DataFrame) -> dict[str, Array]:
    found: dict[str, Array] = {}
    for column, word in (("user_slice", "user"), ("item_slice", "item")):
        values: Any = users[column].to_numpy().astype(str)
        found |= {f"{word} {value}": values == value for value in sorted(set(values.tolist()))}
    if "user_groups" in users.columns:
        rows = users["user_groups"].to_list()
        for group in sorted({one for row in rows for one in row}):
            found[f"user group {group}"] = np.array([group in row for row in rows], dtype=bool)
    return found
