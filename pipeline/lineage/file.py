"""`lineage file`: where a file stood, and what it went on to touch: who was served by it, and when."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from pipeline.data.file_md5 import file_md5
from pipeline.exit_codes import BadConfiguration
from pipeline.lineage.names import nearest, run_named
from pipeline.lineage.touched import Place, Touched, keep_standing, places, stand, touched

if TYPE_CHECKING:
    import psycopg

MD5 = re.compile(r"[0-9a-f]{32}(\.dir)?")
BY_MD5 = """
    select o.attempt, o.path || '/' || p.path, f.id, o.tree
    from files f join entries e on e.file = f.id join paths p on p.id = e.path join outputs o on o.tree = e.tree
    where f.md5 = %(md5)s
    union all
    select o.attempt, o.path, null, o.tree from trees t join outputs o on o.tree = t.id where t.md5 = %(md5)s
"""
BY_PATH = """
    select o.attempt, o.path || '/' || p.path, e.file, o.tree
    from unnest(%(folders)s::text[], %(insides)s::text[]) as split(folder, inside)
    join paths p on p.path = split.inside join entries e on e.path = p.id
    join outputs o on o.tree = e.tree and o.path = split.folder
    union all
    select o.attempt, o.path, null, o.tree from outputs o where o.path = %(whole)s
"""


@dataclass(frozen=True)
class Content:
    """A file's content, wherever it stood."""

    md5: str
    bytes: int | None
    rows: int | None
    first: datetime | None
    last: datetime | None


@dataclass(frozen=True)
class FileLineage:
    """Where a file stood, and what it touched."""

    asked: str
    contents: tuple[Content, ...]
    places: tuple[Place, ...]
    touched: Touched


def file_lineage(connection: psycopg.Connection, asked: str, run: str | None = None) -> FileLineage:
    """Answer for a file, or a stage's whole output: a path on this disk (a file's, its content counts), a path in the
    runs' outputs, or an md5.

    Args:
        run: only the content that stood at the path in this run; without it, every content that ever did.

    Raises:
        BadConfiguration: no run has written such a file; the sentence has the nearest paths.
    """
    if not _stand(connection, asked, run):
        _refuse_file(connection, asked)
    rows = connection.execute(
        "select md5, bytes, rows, first, last from files where id in (select file from standing) "
        "union all select md5, bytes, rows, null, null from trees "
        "where id in (select tree from standing where file is null) order by 4 nulls last, 1"
    )
    contents = tuple(Content(*row) for row in rows)
    return FileLineage(asked, contents, places(connection), touched(connection))


def _stand(connection: psycopg.Connection, asked: str, run: str | None) -> bool:
    on_disk = Path(asked).expanduser()
    if MD5.fullmatch(asked):
        stand(connection, BY_MD5, {"md5": asked})
    elif on_disk.is_file():
        stand(connection, BY_MD5, {"md5": file_md5(on_disk)})
    else:
        # `data/snapshot/a/b.parquet` is the file a/b.parquet of the output data/snapshot; which part is which, the
        # outputs say
        words = asked.strip("/").split("/")
        folders = ["/".join(words[:i]) for i in range(1, len(words) + 1)]
        insides = ["/".join(words[i:]) for i in range(1, len(words) + 1)]
        stand(connection, BY_PATH, {"folders": folders, "insides": insides, "whole": "/".join(words)})
    if run is not None:
        inside = "attempt in (select a.id from attempts a join runs r on r.id = a.run where r.run_id = %s)"
        keep_standing(connection, inside, (run_named(connection, run),))
    return connection.execute("select from standing limit 1").fetchone() is not None


def _refuse_file(connection: psycopg.Connection, asked: str) -> NoReturn:
    if MD5.fullmatch(asked):
        raise BadConfiguration(f"no run has written a file with the md5 {asked}")
    if Path(asked).expanduser().is_file():
        raise BadConfiguration(
            f"no run has written a file with the content of {asked} (md5 {file_md5(Path(asked).expanduser())}); "
            "a raw file is asked for by the source it belongs to: `warmstart lineage source NAME`"
        )
    known = connection.execute(
        "select distinct o.path || '/' || p.path from (select path, max(tree) as tree from outputs group by path) o "
        "join entries e on e.tree = o.tree join paths p on p.id = e.path order by 1"
    )
    raise BadConfiguration(f"no run has written {asked!r}; {nearest(asked, [row[0] for row in known])}")
