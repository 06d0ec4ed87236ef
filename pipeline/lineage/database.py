"""A connection to the lineage index: psycopg alone, with the schema brought up to date when it is not.

SQLAlchemy's and Alembic's imports cost 0.8 s together; they are paid only by the process that finds the schema old.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pipeline.exit_codes import PassingFault

if TYPE_CHECKING:
    import psycopg

DATABASE = "warmstart"
HEAD = "0003"  # the newest revision in migrations/versions
CONNECT_SECONDS = 5
OPTIONS = "-c timezone=UTC -c jit=off -c work_mem=32MB"  # answers of 200,000 rows are hashed in memory, not on the disk
WRITE_LOCK = 7_310_002  # advisory: one process writes the index, others wait for milliseconds


@contextmanager
def connected(url: str | None = None) -> Iterator[psycopg.Connection]:
    """A connection to the index in one transaction, committed at the end of the body.

    Args:
        url: libpq's form; None is the database of `settings()`.

    Raises:
        PassingFault: PostgreSQL does not answer.
    """
    import psycopg

    where = index_url() if url is None else url
    try:
        connection = psycopg.connect(where, connect_timeout=CONNECT_SECONDS, options=OPTIONS)
    except psycopg.OperationalError as error:
        raise PassingFault(
            f"the lineage index is a database in PostgreSQL, which does not answer at {_place(where)} "
            f"({_line(error)}): `warmstart up` starts it; nothing is lost, the manifests are files"
        ) from error
    with connection:
        # Newer is as good: a run pinned to an older commit goes on beside a newer release, whose migrations only add
        # (what it could not write, `warmstart lineage rebuild` does).
        if (_revision(connection) or "") < HEAD:
            from pipeline.lineage.schema import upgrade

            connection.rollback()
            upgrade(where)
        yield connection


def prepare(url: str) -> None:
    """Make the tables of a new database, or bring those of an older release up to date.

    Raises:
        PassingFault: PostgreSQL does not answer.
    """
    with connected(url):
        pass


def index_url() -> str:
    """libpq's URL of the index that `settings()` names."""
    from pipeline.settings import settings

    return settings().postgres_url(DATABASE)


def _revision(connection: psycopg.Connection) -> str | None:
    from psycopg.errors import UndefinedTable

    try:
        row = connection.execute("select version_num from alembic_version").fetchone()
    except UndefinedTable:
        return None
    return row[0] if row else None


def _place(url: str) -> str:
    from urllib.parse import unquote, urlsplit

    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port or 5432}" if parts.hostname else unquote(parts.query.removeprefix("host="))


def _line(error: object) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:200].rstrip(".")
