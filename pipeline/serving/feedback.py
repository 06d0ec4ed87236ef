"""Feedback on the disk before it is acknowledged: requests that arrive together share one transaction.

One commit takes one fsync, however many events it holds (group commit). An event is its `event_id`: sent again, by a
caller whose connection broke or by two at once, it is kept once.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any, NamedTuple

import psycopg

from pipeline.exit_codes import PassingFault
from pipeline.serving.batching import Batcher
from pipeline.serving.users import Happened, micros

log = logging.getLogger("pipeline.serving")

INSERT = """
insert into feedback (event_id, target, user_id, item_id, event, value, happened_at, context, request_id, received_at)
select a, b, c, d, e, f, g, h, i, coalesce(j, now())
from unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::float8[], %s::timestamptz[],
            %s::jsonb[], %s::text[], %s::timestamptz[]) as sent(a, b, c, d, e, f, g, h, i, j)
on conflict (event_id) do nothing returning event_id
"""
NEWEST = """
select user_id, item_id, event, happened_at from (
  select user_id, item_id, event, happened_at,
         row_number() over (partition by user_id order by happened_at desc, seq desc) as place
  from feedback where target = %s and user_id = any(%s) and event <> 'impression'
) as newest where place <= %s order by happened_at
"""
OPTIONS = "-c timezone=UTC -c synchronous_commit=on -c statement_timeout=10000"
CONNECT_SECONDS = 3


class Row(NamedTuple):
    """A row of `feedback`, in the order of INSERT."""

    event_id: str
    target: str
    user_id: str  # pseudonym
    item_id: str
    event: str
    value: float | None
    happened_at: datetime
    context: dict[str, Any] | None
    request_id: str | None
    received_at: datetime | None = None  # None: now; a simulated world has a clock of its own


class Feedback:
    """The table `feedback`: one connection writes, another reads."""

    def __init__(self, url: str) -> None:
        self._writing, self._reading = _Connection(url), _Connection(url)
        self._executor = ThreadPoolExecutor(1, "feedback")
        self._write = Batcher(self._write_many, self._executor, most=256, wait=0)

    async def write(self, rows: Sequence[Row]) -> set[str]:
        """Commit rows, all of them or none; the ids of those that were not there.

        Raises:
            PassingFault: PostgreSQL is away; nothing is known of the rows, send them again.
        """
        found = await self._write(rows)
        if isinstance(found, Exception):
            raise found
        return found

    def newest(self, target: str, user_ids: Sequence[str], most: int) -> dict[str, list[Happened]]:
        """The last `most` events of each user but impressions, chronological. Blocks."""
        found: dict[str, list[Happened]] = {}
        for user, item, event, moment in self._reading.run(NEWEST, (target, list(user_ids), most)):
            found.setdefault(user, []).append(Happened(item, event, micros(moment)))
        return found

    def close(self) -> None:
        """After what is being written."""
        self._executor.shutdown(wait=True)
        self._writing.close()
        self._reading.close()

    def _write_many(self, requests: Sequence[Sequence[Row]]) -> list[set[str] | Exception]:
        try:
            fresh = self._insert([row for rows in requests for row in rows])
        except psycopg.DataError:
            # a value that PostgreSQL cannot keep is the fault of one request, not of its neighbours
            return [self._alone(rows) for rows in requests]
        except psycopg.Error as fault:
            raise PassingFault(
                f"PostgreSQL did not take the feedback ({' '.join(str(fault).split())[:200]})"
            ) from fault
        answers: list[set[str] | Exception] = []
        for rows in requests:  # an id that two requests of a group bring belongs to the first
            own = {row.event_id for row in rows} & fresh
            fresh -= own
            answers.append(own)
        return answers

    def _alone(self, rows: Sequence[Row]) -> set[str] | Exception:
        try:
            return self._insert(rows)
        except psycopg.Error as fault:
            return fault

    def _insert(self, rows: Sequence[Row]) -> set[str]:
        # in one order everywhere: two services cannot wait for each other's locks
        ordered = sorted(rows, key=lambda row: row.event_id)
        columns = [list(column) for column in zip(*ordered, strict=True)]
        columns[7] = [None if context is None else json.dumps(context) for context in columns[7]]
        return {event for (event,) in self._writing.run(INSERT, columns)}


class _Connection:
    """One connection that commits each statement, and is made anew when it broke."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: psycopg.Connection | None = None

    def run(self, query: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        """All rows. A connection that turns out to be dead is replaced once: every statement here may be repeated."""
        for last in (False, True):
            if self._connection is None or self._connection.closed:
                self._connection = psycopg.connect(
                    self._url, autocommit=True, connect_timeout=CONNECT_SECONDS, options=OPTIONS
                )
            try:
                return self._connection.execute(query, values).fetchall()  # type: ignore[arg-type]
            except psycopg.OperationalError:
                self.close()
                if last:
                    raise
        raise AssertionError

    def close(self) -> None:
        """Let go; the next statement connects again."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
