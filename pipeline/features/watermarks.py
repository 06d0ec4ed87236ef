"""How far the online store is filled, per view: one row in PostgreSQL that only moves forward.

A watermark is only worth something while the rows below it are the rows that were pushed. So it is kept together
with a digest of them: when history is changed after the fact (another dataset of the same name, a correction, a
user removed), the digest differs and the view is pushed again from the beginning.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from pipeline.exit_codes import PassingFault

if TYPE_CHECKING:
    import psycopg

TABLE = """
create table if not exists online_watermark (
    store text not null,            -- which online store
    project text not null,          -- Feast project: the dataset
    view text not null,
    as_of timestamptz not null,     -- of the newest run that began to push
    watermark timestamptz,          -- every row known before it is online; null: none yet
    settled text,                   -- digest of the rows that no later run may change
    pushed text,                    -- digest of all rows below the watermark
    primary key (store, project, view)
)"""
LOCK_TIMEOUT = "60s"
CONNECT_SECONDS = 10


@dataclass(frozen=True)
class Watermark:
    """How far one view is filled. See the columns of `TABLE`."""

    as_of: datetime
    watermark: datetime | None = None
    settled: str | None = None
    pushed: str | None = None


class Ledger:
    """The watermarks of one project in one online store.

    Args:
        connection: to the database `warmstart`, in autocommit mode.
        store: name of the online store.
        project: Feast project.
    """

    def __init__(self, connection: psycopg.Connection, store: str, project: str) -> None:
        self.connection = connection
        self.key = (store, project)

    def read(self) -> dict[str, Watermark]:
        """The watermark of every view that was ever pushed."""
        rows = self.connection.execute(
            "select view, as_of, watermark, settled, pushed from online_watermark where (store, project) = (%s, %s)",
            self.key,
        )
        return {view: Watermark(*found) for view, *found in rows}

    def write(self, view: str, mark: Watermark) -> bool:
        """Record `mark`, unless a newer run has begun meanwhile; says whether it did."""
        written = self.connection.execute(
            "insert into online_watermark values (%s, %s, %s, %s, %s, %s, %s)"
            " on conflict (store, project, view) do update set as_of = excluded.as_of,"
            " watermark = excluded.watermark, settled = excluded.settled, pushed = excluded.pushed"
            " where online_watermark.as_of <= excluded.as_of",
            (*self.key, view, mark.as_of, mark.watermark, mark.settled, mark.pushed),
        )
        return written.rowcount == 1


@contextmanager
def open_ledger(url: str, store: str, project: str) -> Iterator[Ledger]:
    """The ledger, held alone: two runs never push into one project at a time.

    Args:
        url: of the database `warmstart`.
        store: name of the online store.
        project: Feast project.

    Raises:
        PassingFault: PostgreSQL does not answer, or another run holds the ledger.
    """
    import psycopg

    try:
        connection = psycopg.connect(url, autocommit=True, connect_timeout=CONNECT_SECONDS)
    except psycopg.OperationalError as error:
        raise PassingFault(
            f"PostgreSQL, which keeps how far the online store is filled, does not answer: {_brief(error)};"
            " `warmstart up` starts it"
        ) from error
    with connection:
        connection.execute(f"set lock_timeout = '{LOCK_TIMEOUT}'")
        try:
            connection.execute("select pg_advisory_lock(hashtextextended(%s, 0))", (f"materialize {store} {project}",))
        except psycopg.errors.LockNotAvailable as error:
            raise PassingFault(
                f"another run has been filling the online store of {project} for {LOCK_TIMEOUT}"
            ) from error
        connection.execute(TABLE)
        yield Ledger(connection, store, project)


def _brief(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]
