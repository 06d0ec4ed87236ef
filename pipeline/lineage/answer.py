"""What every answer is made of, and how it becomes JSON."""

from __future__ import annotations

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
    import orjson  # the longest answers have 20,000 versions: json.dumps takes ten times as long

    return orjson.dumps(answer, default=_plain, option=orjson.OPT_UTC_Z | orjson.OPT_NON_STR_KEYS).decode()


def moment(value: datetime | None) -> str | None:
    """ISO 8601 with a Z, to the second where there is nothing below it."""
    return None if value is None else value.isoformat().replace("+00:00", "Z")


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no form in JSON")
