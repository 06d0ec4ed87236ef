"""`lineage source`: the rows of a source from a time went into which files, and those on to which models."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from pipeline.exit_codes import BadConfiguration
from pipeline.lineage.answer import moment
from pipeline.lineage.names import nearest
from pipeline.lineage.touched import Place, Touched, stand, touched

if TYPE_CHECKING:
    import psycopg

RAW = "data/snapshot"


@dataclass(frozen=True)
class SourceVersion:
    """A content of a source as the runs found it; `first` and `last` are the as_of of the oldest and the newest."""

    name: str
    md5: str | None
    place: str | None
    rows: int | None
    runs: int
    first: datetime
    last: datetime


@dataclass(frozen=True)
class SourceLineage:
    """The files that hold a source's rows of [since, until), and what they touched.

    Attributes:
        versions: every content the source was found with.
        undated: files among `places` whose rows have no time (items, users, undated interactions): always in.
    """

    name: str
    since: datetime | None
    until: datetime | None
    versions: tuple[SourceVersion, ...]
    places: tuple[Place, ...]
    undated: tuple[str, ...]
    touched: Touched


def source_lineage(
    connection: psycopg.Connection, name: str, since: datetime | None = None, until: datetime | None = None
) -> SourceLineage:
    """Answer for the rows of a source with an event time in [since, until).

    Args:
        name: `harbour/interactions`, a domain (all of its tables), or the place that dataset.yaml names.

    Raises:
        BadConfiguration: no run has read such a source (the sentence has the nearest names), or no moment is in the
            window.
    """
    if since is not None and until is not None and since >= until:
        raise BadConfiguration(f"--from {moment(since)} is not before --to {moment(until)}: no event is between them")
    known = [row[0] for row in connection.execute("select distinct name from sources order by name")]
    names = [n for n in known if n == name or n.startswith(f"{name}/")] or _at_place(connection, name)
    if not names:
        domains = [n.partition("/")[0] for n in known]
        raise BadConfiguration(f"no run has read a source {name!r}; {nearest(name, sorted({*known, *domains}))}")
    _hold(connection, names, since, until)
    stand(
        connection,
        """
        select o.attempt, o.path, null, o.tree from outputs o
        where o.path = %(raw)s and o.tree in (select tree from held)
        """,
        {"raw": RAW},
    )
    undated = connection.execute(
        """
        select distinct %s || '/' || p.path from (select distinct path, file from held) stood
        join paths p on p.id = stood.path where (select first from files where id = stood.file) is null order by 1
        """,
        (RAW,),
    )
    versions = connection.execute(
        """
        select s.name, s.md5, max(s.place), max(s.rows), count(distinct r.id), min(r.as_of), max(r.as_of)
        from sources s join attempts a on a.id = s.attempt join runs r on r.id = a.run
        where s.name = any(%s) group by s.name, s.md5 order by max(r.as_of), s.name, s.md5
        """,
        (names,),
    )
    return SourceLineage(
        name=name,
        since=since,
        until=until,
        versions=tuple(SourceVersion(*row) for row in versions),
        places=_places(connection),
        undated=tuple(path for (path,) in undated),
        touched=touched(connection),
    )


def _hold(connection: psycopg.Connection, names: list[str], since: datetime | None, until: datetime | None) -> None:
    """Fill `held` with the files of the sources' tables in every snapshot: numbers alone, there are many of them."""
    connection.execute("drop table if exists held")
    connection.execute("create temporary table held (path integer, file integer, tree integer) on commit drop")
    in_window = """
        where file in (
            select id from files where id in (select distinct file from stood)
            and (first is null or ((%(until)s::timestamptz is null or first < %(until)s)
                              and (%(since)s::timestamptz is null or last >= %(since)s)))
        )
    """
    connection.execute(
        f"""
        insert into held
        with stood as materialized (
            select e.path, e.file, e.tree from paths p join entries e on e.path = p.id
            where (p.path = any(%(files)s) or p.path ~ %(parts)s)
              and e.tree in (select tree from outputs where path = %(raw)s)
        )
        select path, file, tree from stood {in_window if since or until else ""}
        """,  # type: ignore[arg-type]
        {
            "raw": RAW, "since": since, "until": until,
            "files": [f"{n}.parquet" for n in names],
            "parts": "^(" + "|".join(re.escape(n) for n in names) + ")/[^/]+$",
        },
    )  # fmt: skip
    connection.execute("analyze held")


def _places(connection: psycopg.Connection) -> tuple[Place, ...]:
    rows = connection.execute(
        """
        with reading as materialized (
            select distinct s.tree, r.id, r.as_of from standing s
            join attempts a on a.id = s.attempt join runs r on r.id = a.run
        ), nights as (
            select path, count(*) as runs, min(as_of) as first, max(as_of) as last
            from (select distinct held.path, reading.id, reading.as_of from held join reading using (tree)) once
            group by path
        ), contents as (
            select path, count(*) as files from (select distinct path, file from held) once group by path
        )
        select %s || '/' || p.path, files, runs, first, last
        from nights join contents using (path) join paths p on p.id = nights.path order by 1
        """,
        (RAW,),
    )
    return tuple(Place(*row) for row in rows)


def _at_place(connection: psycopg.Connection, place: str) -> list[str]:
    return [row[0] for row in connection.execute("select distinct name from sources where place = %s", (place,))]
