"""Close feedback into partitions by event day: exactly once, however often it is begun, killed and begun again.

    warmstart feedback close

The table `feedback` only grows, and an event that was sent twice is one row; so the number of a day's rows says
whether its partition is current. That also holds for a transaction that commits behind one with a higher number, which
an "everything after the last one" would lose. One closing works on a target at a time (PostgreSQL's advisory lock). It
writes the files under their content's hash, then the row of `feedback_partitions`; killed in between, it is repeated,
and gives the same bytes under the same name.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa

from pipeline.data.feedback import (
    CLOSED,
    EVENT_SCHEMA,
    IMPRESSION,
    ITEM_SCHEMA,
    closed_state,
    feedback_folder,
    version_path,
    write_whole,
)
from pipeline.data.schema import write_table
from pipeline.settings import Settings

if TYPE_CHECKING:
    import psycopg

log = logging.getLogger(__name__)
# A client's clock may be this much ahead of the service's: its event was then known when it happened.
CLOCK_SKEW = timedelta(minutes=5)
KEEP_SECONDS = 86_400.0
ORDER = ["user_id", "timestamp", "item_id", "event", "event_id"]
QUARANTINE_SCHEMA = pa.schema([*EVENT_SCHEMA, ("rule", pa.string())])


@dataclass(frozen=True)
class Partition:
    """A day of a target, closed anew.

    Attributes:
        version: 1 for the first closing; a late event makes the next one.
        rows: events of the day, quarantined ones included.
        quarantined: how many broke the contract.
    """

    target: str
    day: date
    version: int
    rows: int
    quarantined: int


@dataclass(frozen=True)
class Closing:
    """What a closing changed: partitions, and targets whose listed items did."""

    partitions: tuple[Partition, ...]
    items: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.partitions or self.items)


def close_feedback(settings: Settings, targets: tuple[str, ...] = ()) -> Closing:
    """Bring the partitions of `targets` (none: of all that have feedback) up to date.

    Raises:
        PassingFault: PostgreSQL does not answer, or the disk is full.
    """
    partitions: list[Partition] = []
    items: list[str] = []
    for target in targets or _targets():
        with _closing(target) as connection:
            partitions += [_close_day(connection, settings.home, target, day) for day in _stale(connection, target)]
            if _commit(connection, feedback_folder(settings.home, target), target):
                items.append(target)
    return Closing(tuple(partitions), tuple(items))


@contextmanager
def _closing(target: str) -> Iterator[psycopg.Connection]:
    """A connection that commits every statement, while nobody else closes this target."""
    from pipeline.registry.promotion_log import log_connection

    with log_connection() as connection:
        connection.execute("select pg_advisory_lock(hashtextextended(%s, 0))", (f"feedback-{target}",))
        yield connection


def _targets() -> list[str]:
    from pipeline.lineage.database import connected

    with connected() as connection:
        found = connection.execute("select target from feedback union select target from listed_items order by 1")
        return [target for (target,) in found]


def _stale(connection: psycopg.Connection, target: str) -> list[date]:
    """Days with more events than their newest partition has, oldest first."""
    rows = connection.execute(
        """
        with days as (
          select (happened_at at time zone 'UTC')::date as day, count(*) as rows from feedback
          where target = %(target)s group by 1
        ), closed as (
          select day, max(rows) as rows from feedback_partitions where target = %(target)s group by day
        )
        select days.day from days left join closed using (day)
        where closed.rows is null or days.rows > closed.rows order by 1
        """,
        {"target": target},
    )
    return [day for (day,) in rows]


def _close_day(connection: psycopg.Connection, home: Path, target: str, day: date) -> Partition:
    events, up_to = _events(connection, target, day)
    kept, quarantined = _checked(events, f"{target}/{day}")
    folder = feedback_folder(home, target)
    sha = _keep(kept, EVENT_SCHEMA, folder, f"{day}.parquet")
    _draft(quarantined, QUARANTINE_SCHEMA, folder / "quarantine" / f"{day}.parquet")
    before = connection.execute(
        "select coalesce(max(version), 0) from feedback_partitions where target = %s and day = %s", (target, day)
    ).fetchone()
    version = 1 + (before[0] if before else 0)
    connection.execute(
        "insert into feedback_partitions (target, day, version, rows, sha256, path, up_to)"
        " values (%s, %s, %s, %s, %s, %s, %s)",
        (target, day, version, len(events), sha, str(version_path(folder, sha).relative_to(home)), up_to),
    )
    log.info("%s %s: version %d, %s events, %s quarantined", target, day, version, len(events), len(quarantined))
    return Partition(target, day, version, len(events), len(quarantined))


def _events(connection: psycopg.Connection, target: str, day: date) -> tuple[pl.DataFrame, int]:
    """The events of a day in the one order (by `ORDER`), and the highest number among them."""
    rows = connection.execute(
        "select user_id, item_id, happened_at, event, value, greatest(received_at, case when happened_at <="
        " received_at + %s then happened_at end), event_id, request_id, context, seq from feedback"
        " where target = %s and (happened_at at time zone 'UTC')::date = %s",
        (CLOCK_SKEW, target, day),
    ).fetchall()
    columns: list[list[Any]] = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in range(10)]
    columns[8] = [None if c is None else json.dumps(c, sort_keys=True, ensure_ascii=False) for c in columns[8]]
    moment = pl.Datetime("us", "UTC")
    text = pl.String()
    types: list[pl.DataType] = [text, text, moment, text, pl.Float64(), moment, text, text, text]
    series = [
        pl.Series(name, values, dtype=dtype)
        for name, values, dtype in zip(EVENT_SCHEMA.names, columns, types, strict=False)
    ]
    frame = pl.DataFrame(series).with_columns(pl.col("value").cast(pl.Float32))
    return frame.sort(ORDER), max(columns[9], default=0)


def _checked(events: pl.DataFrame, name: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The rows that keep the contract of interactions, and the others with the rule they broke."""
    from pipeline.contracts.check import Surroundings, check
    from pipeline.contracts.rules import contract

    rules = contract("interactions")
    # the contract's own bounds are for a snapshot: whether an event is before `as_of` is asked there
    after = events.select(pl.max_horizontal(pl.col("timestamp", "created_at").max())).item() + timedelta(seconds=1)
    around = Surroundings(after, ["target"], events=[*rules.events, IMPRESSION])
    verdict = check(events, rules, around, name)
    return verdict.kept, verdict.quarantined


def _commit(connection: psycopg.Connection, folder: Path, target: str) -> bool:
    """Write `closed.json` from what PostgreSQL says; whether the listed items changed."""
    days = connection.execute(
        "select distinct on (day) day, sha256 from feedback_partitions where target = %s order by day, version desc",
        (target,),
    ).fetchall()
    before = closed_state(folder)
    items = _close_items(connection, folder, target)
    current = {str(day): sha for day, sha in days}
    state = {"days": current, "items": items}
    if state != before:
        write_whole(folder / CLOSED, (json.dumps(state, indent=1, sort_keys=True) + "\n").encode())
        _tidy(folder, {*current.values(), items})
    return bool(items != before["items"])


def _tidy(folder: Path, current: set[str | None]) -> None:
    """Remove versions that are not current any more and that no run was opened with; an hour makes one of each day."""
    versions = folder / "versions"
    opened = [json.loads(path.read_text("utf-8")) for path in versions.glob("*.json")]
    pinned = {sha for one in opened for sha in (*one["days"].values(), one["items"])}
    for path in versions.glob("*.parquet"):
        # a run that is being opened right now has read the state before this one
        if path.stem not in pinned | current and path.stat().st_mtime < time.time() - KEEP_SECONDS:
            path.unlink()


def _close_items(connection: psycopg.Connection, folder: Path, target: str) -> str | None:
    rows = connection.execute(
        "select item_id, text, attributes, available_from, listed_at from listed_items where target = %s", (target,)
    ).fetchall()
    if not rows:
        return None
    moment = pl.Datetime("us", "UTC")
    types = dict(zip(ITEM_SCHEMA.names, (pl.String, pl.String, pl.List(pl.String), moment, moment), strict=True))
    return _keep(pl.DataFrame(rows, schema=types, orient="row").sort("item_id"), ITEM_SCHEMA, folder, "items.parquet")


def _keep(frame: pl.DataFrame, schema: pa.Schema, folder: Path, name: str) -> str:
    """Write a table under its hash and link it to its name; returns the hash."""
    draft = folder / "versions" / f".{name}.{os.getpid()}"
    _draft(frame, schema, draft)
    sha = hashlib.sha256(draft.read_bytes()).hexdigest()
    draft.replace(version_path(folder, sha))
    link = folder / f".{name}.{os.getpid()}"
    link.unlink(missing_ok=True)
    os.link(version_path(folder, sha), link)
    link.replace(folder / name)
    return sha


def _draft(frame: pl.DataFrame, schema: pa.Schema, path: Path) -> None:
    write_table(frame, path, schema)
    with path.open("rb") as file:
        os.fsync(file.fileno())
