"""Which version is champion by the promotion log: one connection is kept, so that asking takes microseconds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.exit_codes import PassingFault
from pipeline.lineage.database import connected, index_url

if TYPE_CHECKING:
    import psycopg

HEADS = "select distinct on (target) target, to_version from promotions order by target, id desc"
CONNECT_SECONDS = 3


class LogHeads:
    """The head of the log for each target. One thread."""

    def __init__(self) -> None:
        self._connection: psycopg.Connection | None = None

    @property
    def connected(self) -> bool:
        """Did the last question have an answer?"""
        return self._connection is not None

    def read(self) -> dict[str, int]:
        """Version by target.

        Raises:
            PassingFault: PostgreSQL is away; the next question connects anew.
        """
        import psycopg

        try:
            if self._connection is None or self._connection.closed:
                with connected():  # brings the schema up to date
                    pass
                self._connection = psycopg.connect(index_url(), autocommit=True, connect_timeout=CONNECT_SECONDS)
            return dict(self._connection.execute(HEADS).fetchall())
        except (psycopg.Error, PassingFault) as fault:
            if self._connection is not None:
                self._connection.close()
            self._connection = None
            raise PassingFault(f"the promotion log: {' '.join(str(fault).split())[:200]}") from fault
