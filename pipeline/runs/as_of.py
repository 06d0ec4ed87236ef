"""The one rule for `as_of`, the exclusive upper bound in UTC of what a run may learn from.

    what the caller says; else the last midnight UTC at or before the moment the run was due.

Airflow gives every run, however it came about, the moment it was due (`run_after`): the cron tick of a scheduled or a
backfilled run, the click of a manual one, the event of an asset-triggered one. So a night learns from complete days,
and a second run on the same day sees the same data. Standard library only: both environments import it.
"""

from __future__ import annotations

from datetime import UTC, datetime


def as_of_rule(asked: str | None, run_after: datetime) -> datetime:
    """`as_of` of a run, in UTC.

    Args:
        asked: ISO 8601, or None or "" to leave it to the rule; without an offset it is UTC.
        run_after: when the run was due; must know its time zone.

    Raises:
        ValueError: `asked` is no moment in ISO 8601, or `run_after` is naive.
    """
    if asked:
        return parse_as_of(asked)
    if run_after.tzinfo is None:
        raise ValueError(f"run_after {run_after} has no time zone")
    return run_after.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def parse_as_of(text: str) -> datetime:
    """ISO 8601, a date or a moment; without an offset it is UTC.

    Raises:
        ValueError: with a sentence that says what was expected.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"as_of {text!r} is no moment; write it like 2026-01-31 or 2026-01-31T02:00:00Z") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)


def format_as_of(moment: datetime) -> str:
    """`2026-01-31T00:00:00Z`"""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
