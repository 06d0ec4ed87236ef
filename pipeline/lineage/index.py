"""From manifests to rows: `ingest` for the manifests of a closing run, `load` for a whole batch of them.

Both are one code path, COPY included, so that an index that was rebuilt and one that grew night by night are the same.
Writers take one advisory lock, so a manifest is looked up, found missing and written without anybody in between.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.lineage.database import WRITE_LOCK, connected
from pipeline.runs.manifest_store import users_path

if TYPE_CHECKING:
    import psycopg

Manifest = dict[str, Any]
RUNS_AT_ONCE = 500
CODE = ("pipeline", "feature_repo")  # dependencies that belong to the repository (`graph.Stage.code`)
WITH_USERS = ("data/snapshot", "data/quarantine")  # outputs whose files have a list of users beside the manifests


def ingest(manifest: Manifest, home: Path | None = None, url: str | None = None) -> None:
    """Put one manifest into the index; repeating it, also at once from two processes, changes nothing.

    Args:
        home: whose `manifests/users/` to read, by default that of `settings()`.
        url: libpq's URL of the index, by default that of `settings()`.

    Raises:
        PassingFault: PostgreSQL does not answer. Nothing is lost by that: `warmstart lineage rebuild` repairs.
    """
    if home is None:
        from pipeline.settings import settings

        home = settings().home
    with connected(url) as connection:
        lock_for_writing(connection)
        _, runs = load(connection, [manifest], users_of(home))
        close_ancestry(connection, runs)


def lock_for_writing(connection: psycopg.Connection) -> None:
    """Be the only writer of the index until the transaction ends."""
    connection.execute("select pg_advisory_xact_lock(%s)", (WRITE_LOCK,))


def load(
    connection: psycopg.Connection, manifests: Sequence[Manifest], users: Callable[[str], Sequence[str] | None]
) -> tuple[int, set[int]]:
    """Write the rows of manifests that the index does not have yet, without what `close_ancestry` writes.

    Returns how many those were, and the ids of their runs.

    Args:
        manifests: any number, in any order; a run's may come in parts.
        users: md5 of a file -> the pseudonyms in it, None when that is not known.
    """
    unseen = {manifest["sha256"]: manifest for manifest in manifests}
    known = connection.execute("select sha256 from attempts where sha256 = any(%s)", (list(unseen),))
    for (sha,) in known.fetchall():
        del unseen[sha]
    fresh = list(unseen.values())
    if not fresh:
        return 0, set()
    runs = _runs(connection, fresh)
    ids = _next_ids(connection, "attempts", len(fresh))
    made = [(i, out, path) for i, m in zip(ids, fresh, strict=True) for path, out in m.get("outputs", {}).items()]
    trees = _trees(
        connection, [out for _, out, _ in made], users, {out["md5"] for _, out, p in made if p in WITH_USERS}
    )
    of = list(zip(ids, fresh, strict=True))
    _copy(connection, "attempts", [_attempt(i, runs[m["run_id"]], m) for i, m in of])
    _copy(connection, "inputs", [row for i, m in of for row in _inputs(i, m)])
    _intern(connection, "paths", "path", list({path for _, _, path in made}), lambda number, path: (number, path))
    _copy(connection, "outputs", [(i, path, trees[out["md5"]]) for i, out, path in made])
    _copy(connection, "sources", [row for i, m in of for row in _sources(i, m)])
    _copy(connection, "versions", [row for i, m in of for row in _versions(i, m)])
    return len(fresh), set(runs.values())


def close_ancestry(connection: psycopg.Connection, runs: Iterable[int]) -> None:
    """Write who descends from whom in `runs`, and what is below whom, as far as it is known by now."""
    # parents are manifests of the same run, so the closure of the runs at hand is all that can have grown
    listed = sorted(runs)
    for start in range(0, len(listed), RUNS_AT_ONCE):
        connection.execute(
            """
            insert into ancestry
            with recursive edges as materialized (
                select i.attempt, p.id as parent
                from attempts a join inputs i on i.attempt = a.id join attempts p on p.sha256 = i.parent
                where a.run = any(%s)
            ), up(attempt, ancestor) as (
                select attempt, parent from edges
                union
                select up.attempt, edges.parent from up join edges on edges.attempt = up.ancestor
            )
            select attempt, ancestor from up on conflict do nothing
            """,
            (listed[start : start + RUNS_AT_ONCE],),
        )
        connection.execute("delete from descent where run = any(%s)", (listed[start : start + RUNS_AT_ONCE],))
        connection.execute(DESCENT, {"runs": listed[start : start + RUNS_AT_ONCE]})


DESCENT = """
    insert into descent (attempt, run, failed, registered, paths, trees)
    with own as materialized (
        select id, run from attempts where run = any(%(runs)s)
    ), reached as materialized (
        select id as attempt, id as below from own
        union all
        select own.id, y.attempt from own join ancestry y on y.ancestor = own.id
    ), failed as (
        select attempt, array_agg(below order by below) as failed
        from reached join attempts a on a.id = below where a.source = 'failed' group by attempt
    ), registered as (
        select attempt, array_agg(below order by below) as registered
        from reached where below in (select attempt from versions) group by attempt
    ), written as (
        select reached.attempt, array_agg(p.id order by below, p.id) as paths,
               array_agg(o.tree order by below, p.id) as trees
        from reached join outputs o on o.attempt = below join paths p on p.path = o.path group by reached.attempt
    )
    select id, run, coalesce(failed, '{}'), coalesce(registered, '{}'), coalesce(paths, '{}'), coalesce(trees, '{}')
    from own left join failed on failed.attempt = id left join registered on registered.attempt = id
    left join written on written.attempt = id
"""


def users_of(home: Path) -> Callable[[str], Sequence[str] | None]:
    """The lists of users that stand beside the manifests of a home, by a file's md5."""

    def read(md5: str) -> Sequence[str] | None:
        path = users_path(home, md5)
        if not path.exists():
            return None
        import pyarrow.parquet as pq

        found: list[str] = pq.read_table(path, columns=["user_id"]).column("user_id").to_pylist()
        return [user for user in found if user is not None]

    return read


def user_key(pseudonym: str) -> int:
    """A pseudonym as a signed number of 64 bits: its 16 hex digits, or a digest of whatever else it is."""
    digits = pseudonym
    if len(digits) != 16 or any(digit not in "0123456789abcdef" for digit in digits):
        digits = hashlib.sha256(pseudonym.encode()).hexdigest()[:16]
    number = int(digits, 16)
    return number - 2**64 if number >= 2**63 else number


def without_files(manifest: Manifest) -> Manifest:
    """What the index keeps of a manifest as it is; the lists of files are in tables of their own."""
    outputs = {
        path: {key: value for key, value in out.items() if key != "files"}
        for path, out in manifest.get("outputs", {}).items()
    }
    return {**manifest, "outputs": outputs}


def is_code(path: str) -> bool:
    """Whether a stage's dependency is part of the repository."""
    return path.split("/")[0] in CODE


def _attempt(number: int, run: int, manifest: Manifest) -> tuple[Any, ...]:
    return (
        number, manifest["sha256"], run, manifest["stage"], manifest["source"], manifest.get("came_from"),
        manifest.get("exit_code"), manifest.get("started"), manifest.get("ended"), _json(without_files(manifest)),
    )  # fmt: skip


def _inputs(number: int, manifest: Manifest) -> Iterable[tuple[Any, ...]]:
    parents = manifest.get("parents") or {}
    for path, file in manifest.get("inputs", {}).items():
        if path in parents or not is_code(path):
            yield number, path, file["md5"], parents.get(path)


def _sources(number: int, manifest: Manifest) -> Iterable[tuple[Any, ...]]:
    for name, source in (manifest.get("sources") or {}).items():
        yield number, name, source.get("place"), source.get("md5"), source.get("rows")


def _versions(number: int, manifest: Manifest) -> Iterable[tuple[Any, ...]]:
    model = manifest.get("model")
    if model and model.get("version") is not None:
        yield model["name"], model["version"], number, model.get("verdict")


def _runs(connection: psycopg.Connection, fresh: Sequence[Manifest]) -> dict[str, int]:
    first = {m["run_id"]: m for m in reversed(fresh)}

    def row(number: int, run_id: str) -> tuple[Any, ...]:
        m = first[run_id]
        return number, run_id, m.get("as_of"), m.get("origin"), (m.get("code") or {}).get("commit")

    return _intern(connection, "runs", "run_id", list(first), row)


def _trees(
    connection: psycopg.Connection,
    outputs: Sequence[dict[str, Any]],
    users: Callable[[str], Sequence[str] | None],
    with_users: set[str],
) -> dict[str, int]:
    by_md5 = {out["md5"]: out for out in outputs}

    def tree(number: int, md5: str) -> tuple[Any, ...]:
        out = by_md5[md5]
        return number, md5, out.get("bytes"), out.get("nfiles"), out.get("rows")

    trees = _intern(connection, "trees", "md5", list(by_md5), tree)
    # a folder may have been written down before anybody could list it: its files come with the next manifest
    listed = connection.execute(
        "select md5 from trees t where md5 = any(%s) and exists (select from entries e where e.tree = t.id)",
        (list(by_md5),),
    )
    listed_before = {md5 for (md5,) in listed.fetchall()}
    unlisted = {md5: out.get("files") or [] for md5, out in by_md5.items() if md5 not in listed_before}
    about = {file["md5"]: file for listing in unlisted.values() for file in listing}

    def file(number: int, md5: str) -> tuple[Any, ...]:
        f = about[md5]
        return number, md5, f.get("bytes"), f.get("rows"), f.get("from"), f.get("to"), _json(f.get("columns"))

    files = _intern(connection, "files", "md5", list(about), file)
    names = list({f["path"] for listing in unlisted.values() for f in listing})
    paths = _intern(connection, "paths", "path", names, lambda number, path: (number, path))
    _copy(connection, "entries", [
        (trees[md5], paths[f["path"]], files[f["md5"]]) for md5, listing in unlisted.items() for f in listing
    ])  # fmt: skip
    _users(connection, [trees[md5] for md5 in with_users], users)
    return trees


def _users(connection: psycopg.Connection, trees: list[int], users: Callable[[str], Sequence[str] | None]) -> None:
    # not only of new files: a content may have been known from an output that is not asked for by user, e.g. data/valid
    unknown = connection.execute(
        """
        select distinct f.id, f.md5 from entries e join files f on f.id = e.file
        where e.tree = any(%s) and not exists (select from file_users u where u.file = f.id)
        """,
        (trees,),
    )
    found = [(number, users(md5)) for number, md5 in unknown.fetchall()]
    known = [(number, sorted(map(user_key, names))) for number, names in found if names is not None]
    _copy(connection, "file_users", known)


def _intern(
    connection: psycopg.Connection,
    table: str,
    key: str,
    values: list[str],
    row: Callable[[int, str], tuple[Any, ...]],
) -> dict[str, int]:
    """Ids of `values` in column `key`, with a new row for each that is not there (the caller holds the lock)."""
    found = connection.execute(f"select {key}, id from {table} where {key} = any(%s)", (values,))  # type: ignore[arg-type]
    ids: dict[str, int] = dict(found.fetchall())
    missing = sorted({value for value in values if value not in ids})
    fresh = dict(zip(missing, _next_ids(connection, table, len(missing)), strict=True))
    _copy(connection, table, [row(number, value) for value, number in fresh.items()])
    return ids | fresh


def _next_ids(connection: psycopg.Connection, table: str, count: int) -> list[int]:
    if not count:
        return []
    drawn = connection.execute("select nextval(%s) from generate_series(1, %s)", (f"{table}_id_seq", count))
    return [number for (number,) in drawn.fetchall()]


def _copy(connection: psycopg.Connection, table: str, rows: Sequence[tuple[Any, ...]]) -> None:
    if not rows:
        return
    with connection.cursor().copy(f"copy {table} from stdin") as copy:  # type: ignore[arg-type]
        for row in rows:
            copy.write_row(row)


def _json(value: Any) -> str | None:
    # PostgreSQL's text cannot hold the character 0, which a message of a library may
    return None if value is None else json.dumps(value, ensure_ascii=False).replace("\\u0000", "")
