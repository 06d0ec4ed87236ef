"""Prune and recover, round by round: the wish, and the map of all that went."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from pipeline.compression.gradual import joined, share_after
from pipeline.compression.id_columns import least_columns, without_columns
from pipeline.compression.importance import Gates
from pipeline.compression.prune import Removed, least_important, without
from pipeline.compression.pruning_target import to_target, total
from pipeline.models.recommender import SequentialRecommender
from pipeline.models.spec import LayerShape

log = logging.getLogger(__name__)

History = list[dict[str, Any]]
Recover = Callable[[SequentialRecommender, int], History]  # model, round from 1; trains it in place


@dataclass(frozen=True)
class Wish:
    """What shall stay.

    Attributes:
        heads, channels, layers: shares of each, where there is no target.
        target: "parameters" or "operations", None where shares are given.
        keep: share of the target that stays.
        columns: share of the ID table's columns.
        rounds: in how many rounds.
    """

    heads: float = 1.0
    channels: float = 1.0
    layers: float = 1.0
    target: str | None = None
    keep: float = 1.0
    columns: float = 1.0
    rounds: int = 1

    def after(self, round_: int, model: SequentialRecommender, dense: SequentialRecommender, n_items: int) -> Wish:
        """What a round is to keep of the model that it begins with, so that in the end this wish is met."""
        if self.target:
            have = total(model.spec, self.target, model.n_parameters, n_items)
            start = total(dense.spec, self.target, dense.n_parameters, n_items)
            return replace(self, keep=min(1.0, share_after(round_, self.rounds, self.keep) * start / have))

        def share(keep: float, before: int, now: int) -> float:
            last = round(keep * before)
            return max(last, round(share_after(round_, self.rounds, keep) * before)) / now if last else keep

        first, here = dense.spec.layers[0], model.spec.layers[0]
        return replace(
            self,
            heads=share(self.heads, first.heads, here.heads),
            channels=share(self.channels, first.channels, here.channels),
            layers=share(self.layers, len(dense.spec.layers), len(model.spec.layers)),
        )


def prune_in_rounds(
    dense: SequentialRecommender,
    trained: torch.Tensor,
    wish: Wish,
    importance: Callable[[SequentialRecommender], Sequence[Gates]],
    recover: Recover,
) -> tuple[SequentialRecommender, list[Removed], tuple[int, ...], History]:
    """Remove and recover.

    Args:
        dense: stays as it is; its layers are alike.
        trained: bool [rows] of its ID table.
        wish: what shall stay.
        importance: of a model's units.
        recover: trains a pruned model; the history of a round.

    Returns:
        the pruned model, what was removed of the dense layers, and of the ID table's columns, and all rounds' history.

    Raises:
        CannotPrune: nothing would stay of something, or the target cannot be reached.
    """
    columns = least_columns(dense, trained, wish.columns) if wish.columns < 1 else ()
    model = without_columns(dense, columns)
    dense_layers: tuple[LayerShape, ...] = dense.spec.layers
    removed = [Removed((), ()) for _ in dense_layers]
    history: History = []
    for round_ in range(1, wish.rounds + 1):
        now = wish.after(round_, model, dense, len(trained) - 1)
        found = importance(model)
        if now.target:
            price = total(model.spec, now.target, model.n_parameters, len(trained) - 1)
            more = to_target(found, model.spec, now.target, price, now.keep)
        else:
            more = least_important(found, now.heads, now.channels, now.layers)
        model, removed = without(model, more), joined(removed, more, dense_layers)
        log.info("round %d of %d: %s parameters stay", round_, wish.rounds, f"{model.n_parameters:,}")
        before = history[-1] if history else {"step": 0, "epoch": 0}
        history += [
            {**row, "step": row["step"] + before["step"], "epoch": row["epoch"] + before["epoch"]}
            for row in recover(model, round_)
        ]
    return model, removed, columns, history
