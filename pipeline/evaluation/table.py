"""From ranks to the table of an evaluation: every model, both mask modes, slices, intervals, paired differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from pipeline.data.sequences import Array
from pipeline.data.training_set import Holdout
from pipeline.evaluation.metrics import ndcg, per_user
from pipeline.evaluation.ranking import Ranks
from pipeline.evaluation.slices import slices_of
from pipeline.evaluation.statistics import bootstrap

SLICE_METRICS = ("ndcg10", "hr10")


@dataclass(frozen=True)
class Ranked:
    """One model's ranks on the test users.

    Attributes:
        name: as in the table.
        kind: "baseline", "model" or "oracle".
        ranks: of the test users, in the order of the holdout.
        parameters, n_bytes: of what is kept; None for baselines.
        masked_only: only ranks with seen items masked are known (the oracle).
    """

    name: str
    kind: str
    ranks: Ranks
    parameters: int | None = None
    n_bytes: int | None = None
    masked_only: bool = False


@dataclass(frozen=True)
class Interval:
    """How intervals are drawn."""

    samples: int
    confidence: float
    seed: int

    def of(self, columns: Mapping[str, Array]) -> dict[str, dict[str, float | int]]:
        """JSON-ready estimates of all columns."""
        found = bootstrap(columns, self.samples, self.confidence, self.seed)
        return {name: estimate.to_json() for name, estimate in found.items()}


def model_rows(ranked: Sequence[Ranked], holdout: Holdout, interval: Interval) -> list[dict[str, Any]]:
    """The `models` of metrics.json."""
    metrics = {model.name: per_user(model.ranks) for model in ranked}
    # Every column is resampled by the same users, so that intervals of one table can be compared.
    flat = {
        f"{model.name}\n{mode}\n{metric}": column
        for model in ranked
        for mode, columns in metrics[model.name].items()
        if mode == "masked" or not model.masked_only
        for metric, column in columns.items()
        if not (model.masked_only and metric == "auc")  # out of how many the oracle chose is not written down
    }
    rows: dict[str, dict[str, Any]] = {
        model.name: {
            "name": model.name,
            "kind": model.kind,
            "parameters": model.parameters,
            "bytes": model.n_bytes,
            "slices": {},
        }
        for model in ranked
    }
    for key, estimate in interval.of(flat).items():
        name, mode, metric = key.split("\n")
        rows[name].setdefault(mode, {})[metric] = estimate
    for part, chosen in slices_of(holdout).items():
        columns = {
            f"{model.name}\n{metric}": metrics[model.name]["masked"][metric][chosen]
            for model in ranked
            for metric in SLICE_METRICS
        }
        for key, estimate in interval.of(columns).items():
            name, metric = key.split("\n")
            rows[name]["slices"].setdefault(part, {"n": int(chosen.sum())})[metric] = estimate
    return list(rows.values())


def differences(ranked: Sequence[Ranked], of: str, interval: Interval) -> list[dict[str, Any]]:
    """Masked NDCG@10 of one model minus that of every other, paired over the same users."""
    figures = {model.name: ndcg(model.ranks.masked, 10) for model in ranked}
    columns = {name: figures[of] - figure for name, figure in figures.items() if name != of}
    return [{"model": of, "against": name, **found} for name, found in interval.of(columns).items()]


def per_user_table(ranked: Sequence[Ranked], holdout: Holdout, groups: list[list[str]]) -> pl.DataFrame:
    """user_index, item_index, slices, user groups, and masked NDCG@10 of every model in a column of its name."""
    known = {
        "user_index": holdout.user_index,
        "item_index": holdout.item_index,
        "user_slice": holdout.user_slice.astype(str).tolist(),
        "item_slice": holdout.item_slice.astype(str).tolist(),
        "user_groups": groups,
    }
    schema: dict[str, Any] = {"user_slice": pl.String, "item_slice": pl.String, "user_groups": pl.List(pl.String)}
    return pl.DataFrame(known | {model.name: ndcg(model.ranks.masked, 10) for model in ranked}, schema_overrides=schema)


def oracle_ranks(holdout: Holdout) -> Ranks | None:
    """The ranks under a synthetic world's known truth.

    None for real data, and where the truth of one row is not known (its rank is 0): feedback that was taken in beside
    the world's own rows is such a one, and an upper bound over the others alone would bound nothing in this table.
    """
    if holdout.oracle_rank is None or len(holdout) == 0 or not (holdout.oracle_rank > 0).all():
        return None
    ranks = holdout.oracle_rank.astype(np.int64)
    return Ranks(ranks, ranks, ranks, ranks)
