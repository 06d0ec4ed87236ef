"""The promotion log: which version was champion since when, who decided it and why. It is the truth; the alias follows.

One row for each move of the alias, in the table `promotions` (PostgreSQL refuses to change or delete a row), each with
the hash of the row before it in the same target: whoever changes an entry, as a superuser could, has to change every
one after it, and the last hash is also a tag of the champion in MLflow.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import psycopg

FIRST = "0" * 64  # `previous_sha256` of a target's first entry
Action = Literal["promote", "rollback"]
COLUMNS = (
    "target, decided_at, actor, action, reason, verdict_sha256, from_version, to_version, run_id, "
    "previous_sha256, sha256"
)


@dataclass(frozen=True)
class Entry:
    """One move of the alias.

    Attributes:
        decided_at: UTC; `to_version` is champion from here until the next entry of `target`.
        actor: "run <id>" or "user <name>".
        reason: why, in words.
        verdict_sha256: the gate's verdict that it followed from; None when a person decided.
        from_version: the champion before; None for the first.
        previous_sha256: of the entry before, `FIRST` for the first.
        sha256: over everything above.
    """

    target: str
    decided_at: datetime
    actor: str
    action: Action
    reason: str
    verdict_sha256: str | None
    from_version: int | None
    to_version: int
    run_id: str | None
    previous_sha256: str = FIRST
    sha256: str = ""

    def digest(self) -> str:
        """What `sha256` must be."""
        content = {name: value for name, value in asdict(self).items() if name != "sha256"}
        content["decided_at"] = self.decided_at.astimezone(UTC).isoformat(timespec="microseconds")
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self) | {"decided_at": self.decided_at.astimezone(UTC).isoformat().replace("+00:00", "Z")}


@contextmanager
def promotion_lock(target: str) -> Iterator[psycopg.Connection]:
    """Nobody else registers, promotes or rolls back models of `target` during the body; yields an open connection.

    The lock is PostgreSQL's (advisory, of the session): a process that dies in any way has let go.

    Raises:
        PassingFault: PostgreSQL is away.
    """
    with log_connection() as connection:
        connection.execute("select pg_advisory_lock(hashtextextended(%s, 0))", (f"rec-{target}",))
        yield connection


@contextmanager
def log_connection() -> Iterator[psycopg.Connection]:
    """A connection to the log that commits every statement; its tables are made when they are not there.

    Raises:
        PassingFault: PostgreSQL is away.
    """
    import psycopg

    from pipeline.lineage.database import connected, index_url

    with connected():  # brings the schema up to date, and says in words when the server is away
        pass
    with psycopg.connect(index_url(), autocommit=True) as connection:
        yield connection


def append(connection: psycopg.Connection, entry: Entry) -> Entry:
    """Write an entry after the last one of its target, and return it with its hashes. Call it under the lock."""
    before = head(connection, entry.target)
    # PostgreSQL keeps microseconds, and a clock that was set back must not turn the order around
    now = max(entry.decided_at, before.decided_at) if before else entry.decided_at
    chained = replace(entry, decided_at=now, previous_sha256=before.sha256 if before else FIRST)
    chained = replace(chained, sha256=chained.digest())
    values = asdict(chained)
    marks = ", ".join(f"%({name.strip()})s" for name in COLUMNS.split(","))
    connection.execute(f"insert into promotions ({COLUMNS}) values ({marks})", values)  # type: ignore[arg-type]
    return chained


def entries(connection: psycopg.Connection, target: str | None = None) -> list[Entry]:
    """The log of one target or of all, oldest first."""
    rows = connection.execute(
        f"select {COLUMNS} from promotions where %(target)s::text is null or target = %(target)s order by id",  # type: ignore[arg-type]
        {"target": target},
    )
    return [Entry(*row) for row in rows]


def head(connection: psycopg.Connection, target: str) -> Entry | None:
    """The last entry of a target: its `to_version` is the champion."""
    row = connection.execute(
        f"select {COLUMNS} from promotions where target = %s order by id desc limit 1",  # type: ignore[arg-type]
        (target,),
    ).fetchone()
    return Entry(*row) if row else None


def broken_links(chain: list[Entry]) -> list[str]:
    """What is wrong with the log of one target, oldest first: one sentence for each entry that does not fit."""
    found, before = [], FIRST
    champion: int | None = None
    for number, entry in enumerate(chain, 1):
        name = f"entry {number} of {entry.target} ({entry.decided_at:%Y-%m-%d %H:%M:%S}, {entry.action} to version {entry.to_version})"  # noqa: E501
        if entry.digest() != entry.sha256:
            found.append(f"{name} has been changed: its content does not give its hash {entry.sha256[:12]}")
        if entry.previous_sha256 != before:
            found.append(f"{name} does not follow the entry before it: one was removed, added or replaced there")
        elif entry.from_version != champion:
            found.append(f"{name} says it replaced version {entry.from_version}, the champion was {champion}")
        before, champion = entry.sha256, entry.to_version
    return found


def champions_before(chain: list[Entry]) -> list[int]:
    """Champions that a rollback can return to, the nearest last: a rollback takes back what was promoted after them."""
    stack: list[int] = []
    for entry in chain:
        if entry.action == "rollback" and entry.to_version in stack:
            while stack[-1] != entry.to_version:
                stack.pop()
        else:
            stack.append(entry.to_version)
    return stack[:-1]
