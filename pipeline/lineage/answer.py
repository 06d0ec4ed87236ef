"""What every answer is made of, and how it becomes JSON."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Interval:
    """While a version was champion: [since, until), `until` None as long as it is.

    Attributes:
        by: who moved the alias to it, e.g. "run manual__…" or "user ada".
    """

    since: datetime
    until: datetime | None
    by: str


@dataclass(frozen=True)
class Version:
    """A registered model version, and when it was served.

    Attributes:
        verdict: the gate's, when it was registered.
        as_of: exclusive upper bound of what it has learned from.
        registered: when.
    """

    name: str
    version: int
    run_id: str
    verdict: str | None
    as_of: datetime | None
    registered: datetime | None
    champion: tuple[Interval, ...] = ()

    def __str__(self) -> str:
        return f"{self.name}/{self.version}"


def as_json(answer: Any) -> str:
    """An answer as JSON: dataclasses are objects, moments are ISO 8601 in UTC."""
    # no indentation: with it Python's encoder takes ten times as long, and the longest answers have 20,000 versions
    return json.dumps(answer, default=_plain, ensure_ascii=False)


def moment(value: datetime | None) -> str | None:
    """ISO 8601 with a Z, to the second where there is nothing below it."""
    return None if value is None else value.isoformat().replace("+00:00", "Z")


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return moment(value)
    if isinstance(value, Path):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    raise TypeError(f"{type(value).__name__} has no form in JSON")
