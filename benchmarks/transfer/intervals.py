"""Gains with their intervals, as figures."""

from __future__ import annotations

from collections.abc import Sequence

from figures import Figure

from pipeline.data.sequences import Array
from pipeline.transfer.experiment_arms import Outcome
from pipeline.transfer.outcome import PICKED, gain, pooled
from pipeline.transfer.params import SCRATCH


def gains(name: str, outcomes: Sequence[Outcome], part: str) -> list[Figure]:
    """The picked arm over scratch, with its interval."""
    ours, theirs = (pooled([one for one in outcomes if one["arm"] == arm], part) for arm in (PICKED, SCRATCH))
    return intervals(name, ours, theirs)


def intervals(name: str, ours: Array, theirs: Array) -> list[Figure]:
    """A gain in percent and both its ends; none without users."""
    found = gain(ours, theirs) if len(ours) else (None, None, None)
    return [
        (name + ending, value, "%")
        for ending, value in zip(("", "_low", "_high"), found, strict=True)
        if value is not None
    ]
