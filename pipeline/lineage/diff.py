"""`lineage diff`: what changed from one model version, or one run, to another: code, data, parameters and the rest."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.exit_codes import BadConfiguration
from pipeline.lineage.answer import Version
from pipeline.lineage.index import is_code
from pipeline.lineage.names import LATEST, run_named, versions_named

if TYPE_CHECKING:
    import psycopg

RAW = "data/snapshot"
# Values of these parameters are said elsewhere in the answer, or differ in every run.
SAID_ELSEWHERE = ("sources",)


@dataclass(frozen=True)
class Side:
    """One of the two: a model version, or a whole run (`version` is None)."""

    name: str
    run_id: str
    as_of: datetime | None
    commit: str | None
    clean: bool | None
    version: Version | None


@dataclass(frozen=True)
class Change:
    """A value before and after; None where there was none."""

    name: str
    before: Any
    after: Any


@dataclass(frozen=True)
class Partition:
    """A file of the snapshot that is new, gone (`after` is None) or another, with its rows before and after."""

    path: str
    change: str
    before: int | None
    after: int | None


@dataclass(frozen=True)
class Differences:
    """Everything that differs; what is equal is not in it.

    Attributes:
        commits: `git log --oneline before..after`, newest first.
        commits_note: why there are none, when the commits differ all the same.
        code: dependencies in the repository whose content differs (md5).
        rows: of the whole snapshot.
        stages: stages that only one of the two has.
    """

    before: Side
    after: Side
    commits: tuple[str, ...]
    commits_note: str | None
    code: tuple[Change, ...]
    rows: Change
    sources: tuple[Change, ...]
    partitions: tuple[Partition, ...]
    parameters: tuple[Change, ...]
    features: tuple[Change, ...]
    environment: tuple[Change, ...]
    metrics: tuple[Change, ...]
    stages: tuple[Change, ...]


@dataclass(frozen=True)
class _Found:
    side: Side
    facts: dict[str, dict[str, Any]]  # by stage
    raw: int | None  # id of the attempt that wrote the snapshot


def differences(connection: psycopg.Connection, before: str, after: str, checkout: Path) -> Differences:
    """Answer for two names of versions or runs; of `16 17` both are versions of the one model that has them, or runs.

    Args:
        checkout: the repository to ask for the commits in between.

    Raises:
        BadConfiguration: a name names nothing, or several models.
    """
    # a bare number beside a full name is a version of the same model
    models = {
        name.rpartition("/")[0] or name.partition("@")[0] for name in (before, after) if "/" in name or "@" in name
    }
    if len(models) == 1:
        before, after = (f"{next(iter(models))}/{name}" if name.isdigit() else name for name in (before, after))
    one, two = _find(connection, before), _find(connection, after)
    commits, note = _commits(checkout, one.side.commit, two.side.commit)
    files_before, files_after = _files(connection, one.raw), _files(connection, two.raw)
    return Differences(
        before=one.side,
        after=two.side,
        commits=commits,
        commits_note=note,
        code=_changes(_code(one), _code(two)),
        rows=Change("rows", _rows(files_before), _rows(files_after)),
        sources=_changes(_sources(one), _sources(two)),
        partitions=_partitions(files_before, files_after),
        parameters=_changes(_parameters(one), _parameters(two)),
        features=_changes(_flat(_any(one, "features")), _flat(_any(two, "features"))),
        environment=_changes(_flat(_any(one, "environment")), _flat(_any(two, "environment"))),
        metrics=_changes(_metrics(one), _metrics(two)),
        stages=_changes(dict.fromkeys(one.facts, "there"), dict.fromkeys(two.facts, "there")),
    )


def _find(connection: psycopg.Connection, text: str) -> _Found:
    if text.isdigit() or "@" in text or "/" in text:
        versions = versions_named(connection, text)
        if len(versions) == 1:
            return _version(connection, *versions[0])
        runs = {version.run_id for _, version in versions}
        if len(runs) > 1:
            choice = " or ".join(str(version) for _, version in versions)
            raise BadConfiguration(f"{text} could be {choice}: write one of them")
        return _run(connection, runs.pop())
    return _run(connection, run_named(connection, LATEST if text == LATEST else text))


def _version(connection: psycopg.Connection, attempt: int, version: Version) -> _Found:
    where = "a.id in (select %(a)s::int union all select ancestor from ancestry where attempt = %(a)s)"
    return _found(connection, str(version), version, where, {"a": attempt})


def _run(connection: psycopg.Connection, run_id: str) -> _Found:
    where = "a.run = (select id from runs where run_id = %(run)s) and a.source <> 'failed'"
    return _found(connection, run_id, None, where, {"run": run_id})


def _found(connection: psycopg.Connection, name: str, version: Version | None, where: str, values: Any) -> _Found:
    rows = connection.execute(
        f"select a.id, a.stage, a.facts, r.run_id, r.as_of from attempts a join runs r on r.id = a.run "
        f"where {where} order by a.ended, a.id",  # type: ignore[arg-type]
        values,
    ).fetchall()
    if not rows:
        raise BadConfiguration(f"no stage of the run {name} has finished; there is nothing to compare")
    # of two attempts at a stage the later one counts: its outputs are those that stayed
    ids = {stage: number for number, stage, *_ in rows}
    facts = {stage: fact for _, stage, fact, *_ in rows}
    code = rows[-1][2].get("code") or {}
    side = Side(name, rows[0][3], rows[0][4], code.get("commit"), code.get("clean"), version)
    writers = [stage for stage, fact in facts.items() if RAW in fact.get("outputs", {})]
    return _Found(side, facts, ids[writers[0]] if writers else None)


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[Change, ...]:
    names = sorted({*before, *after})
    return tuple(
        Change(name, before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)
    )


def _code(found: _Found) -> dict[str, Any]:
    every = (item for fact in found.facts.values() for item in fact.get("inputs", {}).items())
    return {path: file.get("md5") for path, file in every if is_code(path)}


def _sources(found: _Found) -> dict[str, Any]:
    return {
        name: {"md5": source.get("md5"), "rows": source.get("rows")}
        for fact in found.facts.values()
        for name, source in (fact.get("sources") or {}).items()
    }


def _parameters(found: _Found) -> dict[str, Any]:
    every: dict[str, Any] = {}
    for fact in found.facts.values():
        every |= fact.get("parameters") or {}
    return _flat({name: value for name, value in every.items() if name not in SAID_ELSEWHERE})


def _metrics(found: _Found) -> dict[str, Any]:
    return {
        f"{stage}.{name}": value
        for stage, fact in found.facts.items()
        for name, value in (fact.get("metrics") or {}).items()
    }


def _any(found: _Found, key: str) -> dict[str, Any]:
    return next((fact[key] for fact in found.facts.values() if fact.get(key)), {})


def _flat(value: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, inner in value.items():
        flat |= _flat(inner, f"{above}{name}.") if isinstance(inner, Mapping) else {f"{above}{name}": inner}
    return flat


def _files(connection: psycopg.Connection, attempt: int | None) -> dict[str, tuple[str, int | None]]:
    rows = connection.execute(
        """
        select p.path, f.md5, f.rows from outputs o join entries e on e.tree = o.tree
        join paths p on p.id = e.path join files f on f.id = e.file where o.attempt = %s and o.path = %s
        """,
        (attempt, RAW),
    )
    return {path: (md5, count) for path, md5, count in rows}


def _rows(files: Mapping[str, tuple[str, int | None]]) -> int:
    return sum(count or 0 for _, count in files.values())


def _partitions(
    before: Mapping[str, tuple[str, int | None]], after: Mapping[str, tuple[str, int | None]]
) -> tuple[Partition, ...]:
    found = []
    for path in sorted({*before, *after}):
        old, new = before.get(path), after.get(path)
        if old is not None and new is not None and old[0] == new[0]:
            continue
        change = "added" if old is None else "removed" if new is None else "changed"
        found.append(Partition(path, change, old[1] if old else None, new[1] if new else None))
    return tuple(found)


def _commits(checkout: Path, before: str | None, after: str | None) -> tuple[tuple[str, ...], str | None]:
    if before == after:
        return (), None
    for commit in (before, after):
        if commit is None or _git(checkout, "cat-file", "-e", f"{commit}^{{commit}}").returncode:
            return (
                (),
                f"{checkout} does not have the commit {(commit or 'unknown')[:10]}; fetch it to see what lies between",
            )
    lines = _git(checkout, "log", "--oneline", f"{before}..{after}").stdout.splitlines()
    if lines:
        return tuple(lines), None
    back = _git(checkout, "log", "--oneline", f"{after}..{before}").stdout.splitlines()
    return (), f"the second is the older one: it lacks {len(back)} commits of the first"


def _git(checkout: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", "-C", str(checkout), *words], capture_output=True, text=True, check=False)
