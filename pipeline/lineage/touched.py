"""What descends from some attempts: tables, models, versions, and the intervals in which each version was champion.

A question first fills a temporary table, `standing`, with every place where the content stood; what is below each of
them is a row of the index (`descent`): what stood in 10,000 runs has 150,000 attempts below it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pipeline.lineage.answer import Version
from pipeline.lineage.champions import champion_intervals

if TYPE_CHECKING:
    import psycopg


@dataclass(frozen=True)
class Place:
    """Where content stood.

    Attributes:
        path: in the workspace of a run.
        contents: how many different contents of those asked for.
        runs: in how many runs; `first` and `last` are the as_of of the oldest and the newest of them.
    """

    path: str
    contents: int
    runs: int
    first: datetime
    last: datetime


@dataclass(frozen=True)
class Table:
    """A folder that a stage wrote from it: how many runs, and how many different contents in them."""

    path: str
    runs: int
    contents: int


@dataclass(frozen=True)
class Touched:
    """Everything below the content.

    Attributes:
        runs: how many runs held it.
        failed: attempts that read it, or something made of it, and did not finish.
        tables: folders written from it or holding it, by path.
        versions: model versions that descend from it, the newest first in each model.
    """

    runs: int
    failed: int
    tables: tuple[Table, ...]
    versions: tuple[Version, ...]


def stand(connection: psycopg.Connection, query: str, values: Any) -> None:
    """Fill `standing` with the rows (attempt, path, file, tree) of `query`; file is null for a whole folder."""
    connection.execute("drop table if exists standing")
    connection.execute(
        "create temporary table standing (attempt integer, path text, file integer, tree integer) on commit drop"
    )
    connection.execute(f"insert into standing {query}", values)  # type: ignore[arg-type]
    connection.execute("analyze standing")


def keep_standing(connection: psycopg.Connection, condition: str, values: Any) -> None:
    """Narrow `standing` to the rows for which `condition` holds."""
    connection.execute(f"delete from standing where not ({condition})", values)  # type: ignore[arg-type]


def places(connection: psycopg.Connection) -> tuple[Place, ...]:
    """`standing`, by path."""
    rows = connection.execute(
        """
        select s.path, count(distinct coalesce(s.file, -s.tree)), count(distinct r.id), min(r.as_of), max(r.as_of)
        from standing s join attempts a on a.id = s.attempt join runs r on r.id = a.run group by s.path order by s.path
        """
    )
    return tuple(Place(*row) for row in rows)


def touched(connection: psycopg.Connection) -> Touched:
    """What descends from the attempts in `standing`, themselves included."""
    connection.execute("drop table if exists above")
    connection.execute(
        "create temporary table above on commit drop as "
        "select * from descent where attempt in (select attempt from standing)"
    )
    connection.execute("analyze above (attempt)")
    runs, failed = connection.execute(
        """
        select (select count(distinct run) from above),
               (select count(distinct attempt) from (select unnest(failed) as attempt from above) f)
        """
    ).fetchall()[0]
    # hashed, not count(distinct), which would sort every row twice
    tables = connection.execute(
        """
        with written as materialized (
            select run, w.path, w.tree from above, unnest(paths, trees) as w(path, tree)
        )
        select p.path, runs, contents
        from (select path, count(*) as runs from (select distinct path, run from written) o group by path) r
        join (select path, count(*) as contents from (select distinct path, tree from written) o group by path) t
        using (path) join paths p on p.id = r.path
        order by p.path
        """
    )
    return Touched(runs, failed, tuple(Table(*row) for row in tables), _versions(connection))


def _versions(connection: psycopg.Connection) -> tuple[Version, ...]:
    # of the attempts that registered a version the first to end made it; a retry only found it
    rows = connection.execute(
        """
        select v.name, v.version, r.run_id, v.verdict, r.as_of, a.ended
        from versions v join attempts a on a.id = v.attempt join runs r on r.id = a.run
        where v.attempt in (select unnest(registered) from above) and not exists (
            select from versions w
            where w.name = v.name and w.version = v.version and w.attempt <> v.attempt
              and (select (b.ended, b.id) < (a.ended, a.id) from attempts b where b.id = w.attempt)
        )
        order by v.name, v.version desc
        """
    ).fetchall()
    served = champion_intervals(connection, [(row[0], row[1]) for row in rows])
    return tuple(
        Version(name, version, run, verdict, as_of, ended, served.get((name, version), ()))
        for name, version, run, verdict, as_of, ended in rows
    )
