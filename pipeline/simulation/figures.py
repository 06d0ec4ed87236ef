"""From visits to figures: HR@10 and regret by day, the service beside popularity on the same requests.

Every figure is a mean over visits with a 95 % bootstrap interval; a user comes once a day, so a day's visits are users.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import numpy as np

from pipeline.evaluation.statistics import bootstrap
from pipeline.simulation.choice import regret
from pipeline.simulation.journal import Visit

SAMPLES, CONFIDENCE = 1000, 0.95
ARMS = ("service", "popularity")
PARTS = {
    "warm users": lambda visit: not visit.cold_user,
    "cold users": lambda visit: visit.cold_user,
    "new items": lambda visit: visit.wanted_age is not None,
    "items of the day": lambda visit: visit.wanted_age == 0,
}  # fmt: skip
MEANING = {
    "warm users": "had something in this market before",
    "cold users": "had nothing in this market before",
    "new items": "what the user wanted was listed in the simulation",
    "items of the day": "what the user wanted was listed that day: no night has seen it",
}


def figures(days: Mapping[date, Sequence[Visit]], nights: Mapping[date, Mapping[str, Any]]) -> dict[str, Any]:
    """JSON-ready.

    Returns:
        `targets` -> name -> `days` (a row a day, see `_measured`, with what answered and how the night ended),
        `whole` (all days together) and `parts` (all days, users and items apart).
    """
    targets = sorted({visit.target for visits in days.values() for visit in visits})
    return {
        "confidence": CONFIDENCE,
        "parts": MEANING,
        "targets": {name: _target(name, days, nights) for name in targets},
    }


def _target(
    name: str, days: Mapping[date, Sequence[Visit]], nights: Mapping[date, Mapping[str, Any]]
) -> dict[str, Any]:
    own = {day: [visit for visit in visits if visit.target == name] for day, visits in sorted(days.items())}
    every = [visit for visits in own.values() for visit in visits]
    rows = [
        {
            "day": str(day),
            **_measured(visits),
            **_answered(visits),
            "night": nights.get(day, {}).get("verdicts", {}).get(name),
        }
        for day, visits in own.items()
    ]
    parts = {part: _measured([visit for visit in every if belongs(visit)]) for part, belongs in PARTS.items()}
    return {"days": rows, "whole": {**_measured(every), **_answered(every)}, "parts": parts}


def _measured(visits: Sequence[Visit]) -> dict[str, Any]:
    """`n`; `hr10` and `regret` of each arm and `hr10_gain`, service - popularity, paired; `best_hr10`."""
    columns = {
        "hr10 service": [float(visit.hit) for visit in visits],
        "hr10 popularity": [float(visit.popular_hit) for visit in visits],
        "hr10 gain": [float(visit.hit) - float(visit.popular_hit) for visit in visits],
        "regret service": [regret(visit.utility, visit.best) for visit in visits],
        "regret popularity": [regret(visit.popular_utility, visit.best) for visit in visits],
        "best": [visit.best for visit in visits],
    }
    found = bootstrap({name: np.array(values) for name, values in columns.items()}, SAMPLES, CONFIDENCE, seed=0)
    told = {name: estimate.to_json() if visits else None for name, estimate in found.items()}
    return {
        "n": len(visits),
        "hr10": {arm: told[f"hr10 {arm}"] for arm in ARMS},
        "hr10_gain": told["hr10 gain"],
        "regret": {arm: told[f"regret {arm}"] for arm in ARMS},
        "best_hr10": told["best"],
    }


def _answered(visits: Sequence[Visit]) -> dict[str, Any]:
    """Share of the answers by source, and the number of them by model."""
    sources = Counter(visit.source for visit in visits)
    return {
        "sources": {name: count / len(visits) for name, count in sorted(sources.items())},
        "models": dict(sorted(Counter(visit.model for visit in visits).items())),
    }
