"""The numbers of `model_inputs` for one user or one new item, from what Feast's online store answers.

    opened = at_sequence_start("harbour", activity, now)
    features = profile_vector(model.profile_features, profile, opened.footprint, opened.activity, scales, opened.now)

The same formulas as over tables, without a table: a request waits for this. A test holds the two together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, log1p
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.features.knowledge import DAY
from pipeline.features.model_inputs import (
    ACTIVITY_FEATURES,
    FOOTPRINT_FEATURES,
    FURTHEST,
    ITEM_FEATURES,
    LARGE,
    OWN_FEATURES,
    ValueScale,
)

Row = Mapping[str, Any]  # the features of one view by name; None for what is not known
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Opening:
    """What is known of a user at the moment their sequence in a domain begins.

    Attributes:
        footprint: as the view `user_footprint`, without the domain; None when there is nothing elsewhere.
        activity: by domain as the view `user_activity`, without the domain.
        now: microseconds UTC.
    """

    footprint: Row | None
    activity: Mapping[str, Row]
    now: int


def at_sequence_start(
    domain: str, activity: Mapping[str, Row | None], now: int, first_time: int | None = None
) -> Opening:
    """Take a user's history in `domain` out of what the online store knows now.

    A model reads profiles as they were one microsecond before the first interaction in the domain that it ranks for
    (`training_tables.user_entities`): what the user did there stands in the sequence, not in the profile. Domains that
    the user came to later are taken out too. Of a domain that the user was in already, the online store only has the
    newest state: what was done there since then cannot be taken out, and counts.

    Args:
        domain: that is ranked for.
        activity: by domain, the view `user_activity`; a domain that is missing or whose count is None has none.
        now: microseconds UTC.
        first_time: microseconds UTC of an interaction in the domain that the online store may not know yet.
    """
    known = {name: row for name, row in activity.items() if row is not None and row.get("n_interactions") is not None}
    own = known.pop(domain, None)
    starts = [moment for moment in (own["first_time"] if own else None, first_time) if moment is not None]
    began = min([now, *(start - 1 for start in starts)])
    known = {name: row for name, row in known.items() if row["first_time"] <= began}
    footprint = None
    if known:
        footprint = {
            "n_interactions": sum(row["n_interactions"] for row in known.values()),
            "n_domains": len(known),
            "first_time": min(row["first_time"] for row in known.values()),
            "last_time": max(row["last_time"] for row in known.values()),
        }
    return Opening(footprint, known, began)


def profile_vector(
    names: Sequence[str],
    profile: Row | None,
    footprint: Row | None,
    activity: Mapping[str, Row | None],
    scales: Mapping[str, ValueScale],
    now: int,
) -> Floats:
    """The profile of one user: `model_inputs.profile_features` of a single row.

    Args:
        names: the model's profile features, in its order.
        profile: the view `user_profile`: `attributes`.
        footprint: the view `user_footprint`: `n_interactions`, `n_domains`, `first_time`, `last_time`.
        activity: by domain the view `user_activity`: `n_interactions`, `mean_value`, `last_time`.
        scales: value scale of every domain of the dataset (`serving.value_scales` of a served model).
        now: microseconds UTC.

    Returns:
        float32 [P].

    Raises:
        ValueError: the model wants a feature that is not made here, or of a domain that has no value scale.
    """
    attributes = (profile or {}).get("attributes")
    trod = footprint or {}
    count = 0 if attributes is None else len(attributes)
    known = dict(zip(OWN_FEATURES, (float(count > 0), _counted(count)), strict=True))
    known |= zip(
        FOOTPRINT_FEATURES,
        (
            float(trod.get("n_interactions") is not None),
            _counted(trod.get("n_interactions")),
            (trod.get("n_domains") or 0) / max(len(scales), 1),
            _days(now, trod.get("first_time")),
            _days(now, trod.get("last_time")),
        ),
        strict=True,
    )
    for domain, scale in scales.items():
        row = activity.get(domain) or {}
        figures = (
            _counted(row.get("n_interactions")),
            _days(now, row.get("last_time")),
            _standardised(row.get("mean_value"), scale),
        )
        known |= {f"{domain}_{name}": figure for name, figure in zip(ACTIVITY_FEATURES, figures, strict=True)}
    return _in_order(known, names, "profile")


def item_vector(
    names: Sequence[str],
    statistics: Row | None,
    available_from: int | None,
    scale: ValueScale,
    half_life_days: float,
    now: int,
) -> Floats:
    """The features of one item: `model_inputs.item_features` of a single row.

    Args:
        names: the model's item features, in its order.
        statistics: the view `item_statistics`; None for an item that is new.
        available_from: microseconds UTC since when it can be chosen; None where unknown.
        scale: value scale of the domain.
        half_life_days: `serving.half_life_days` of a served model.
        now: microseconds UTC.

    Returns:
        float32 [F].

    Raises:
        ValueError: the model wants a feature that is not made here.
    """
    row = statistics or {}
    last, mean, recent = row.get("last_time"), row.get("mean_value"), row.get("recent_interactions")
    aged = None if recent is None or last is None else recent * 0.5 ** ((now - last) / (half_life_days * DAY))
    figures = (
        float(row.get("n_interactions") is not None),
        _counted(row.get("n_interactions")),
        _counted(aged),
        _days(now, last),
        float(mean is not None),
        _standardised(mean, scale),
        float(available_from is not None),
        _days(now, available_from),
    )
    return _in_order(dict(zip(ITEM_FEATURES, figures, strict=True)), names, "item")


def _in_order(known: Mapping[str, float], names: Sequence[str], kind: str) -> Floats:
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"the model reads the {kind} features {', '.join(unknown)}, which are not made online")
    # as in the tables, where single numbers are rounded by double arithmetic
    single = np.array([known[name] for name in names], dtype=np.float32)
    return np.round(single.astype(np.float64), 6).astype(np.float32)


def _counted(count: float | None) -> float:
    return log1p(count or 0) / LARGE


def _days(now: int, moment: int | None) -> float:
    return 0.0 if moment is None else log1p(max(now - moment, 0) / DAY) / LARGE


def _standardised(value: float | None, scale: ValueScale) -> float:
    if value is None or not isfinite(value):
        return 0.0
    return max(-FURTHEST, min(FURTHEST, (value - scale["mean"]) / scale["spread"]))
