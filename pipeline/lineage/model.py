"""`lineage model`: what one version was made of, down to the raw files, their rows and the sources they came from."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.lineage.answer import Version
from pipeline.lineage.names import one_version

if TYPE_CHECKING:
    import psycopg

RAW = "data/snapshot"


@dataclass(frozen=True)
class Output:
    """A folder that a stage wrote; `md5` is DVC's, `rows` those of its Parquet files."""

    path: str
    md5: str
    bytes: int | None
    files: int | None
    rows: int | None


@dataclass(frozen=True)
class Step:
    """One stage attempt that a model descends from.

    Attributes:
        source: executed or cached.
        made_by: run whose attempt made the outputs; this step's own run unless it came from the cache. None when the
            manifest it came from is not in the index.
        parents: stages whose outputs it read.
    """

    stage: str
    sha256: str
    source: str
    made_by: str | None
    message: str
    started: datetime | None
    ended: datetime | None
    parents: tuple[str, ...]
    outputs: tuple[Output, ...]


@dataclass(frozen=True)
class RawFile:
    """A file of the snapshot: its rows and, for interactions, its oldest and newest event."""

    path: str
    md5: str
    rows: int | None
    first: datetime | None
    last: datetime | None


@dataclass(frozen=True)
class SourceRead:
    """A table of the dataset as the snapshot found it."""

    name: str
    place: str | None
    md5: str | None
    rows: int | None


@dataclass(frozen=True)
class ModelLineage:
    """The whole answer.

    Attributes:
        validation: suites, success, quarantined counts, and `report`, the page's path (None once it is deleted).
        features: registry, service, views, definitions, entities.
        airflow: of the attempt that registered the version.
        unresolved: hops that lead nowhere: a parent or a maker that is not in the index. Empty for a whole lineage.
        reproduce: the command that makes it again.
    """

    version: Version
    reasons: tuple[str, ...]
    code: dict[str, Any]
    environment: dict[str, Any]
    airflow: dict[str, Any] | None
    mlflow_run_id: str | None
    validation: dict[str, Any] | None
    features: dict[str, Any] | None
    steps: tuple[Step, ...]
    files: tuple[RawFile, ...]
    sources: tuple[SourceRead, ...]
    unresolved: tuple[str, ...]
    reproduce: str


def model_lineage(connection: psycopg.Connection, text: str, home: Path) -> ModelLineage:
    """Answer for the version that `text` names.

    Raises:
        BadConfiguration: `text` names no version, or several.
    """
    attempt, version = one_version(connection, text)
    return lineage_of(connection, attempt, version, home)


def lineage_of(connection: psycopg.Connection, attempt: int, version: Version, home: Path) -> ModelLineage:
    """Answer for a version whose registering attempt is known."""
    rows = connection.execute(
        """
        select id, sha256, stage, source, came_from, started, ended, facts from attempts
        where id in (select %(a)s::int union all select ancestor from ancestry where attempt = %(a)s)
        """,
        {"a": attempt},
    ).fetchall()
    ids = [row[0] for row in rows]
    parents, broken = _parents(connection, ids)
    makers = _makers(connection, [row[4] for row in rows if row[4]])
    outputs = _outputs(connection, ids)
    steps, facts = {}, {}
    for number, sha, stage, source, came_from, started, ended, fact in rows:
        made_by = version.run_id if came_from is None and source != "cached" else makers.get(came_from)
        if made_by is None:
            broken.append(f"{stage}: the attempt that made its outputs ({came_from or 'unknown'})")
        facts[number] = fact
        steps[number] = Step(
            stage, sha, source, made_by, fact.get("message") or "", started, ended,
            tuple(sorted(parents.get(number, ()))), tuple(outputs.get(number, ())),
        )  # fmt: skip
    raw = [number for number, step in steps.items() if any(out.path == RAW for out in step.outputs)]
    registered = facts[attempt]
    return ModelLineage(
        version=version,
        reasons=tuple((registered.get("model") or {}).get("reasons") or ()),
        code=registered.get("code") or {},
        environment=registered.get("environment") or {},
        airflow=registered.get("airflow"),
        mlflow_run_id=registered.get("mlflow_run_id"),
        validation=_validation(facts.values(), version.run_id, home),
        features=_first(facts.values(), "features"),
        steps=_in_order(steps.values()),
        files=_files(connection, raw),
        sources=_sources(connection, raw),
        unresolved=tuple(sorted(broken)),
        reproduce=f"warmstart lineage reproduce {version}",
    )


def _in_order(steps: Any) -> tuple[Step, ...]:
    # a stage stands after everything it read: by its greatest distance from a stage that read nothing
    by_stage = {step.stage: step for step in steps}
    depths: dict[str, int] = {}

    def depth(stage: str) -> int:
        if stage not in depths:
            depths[stage] = 1 + max((depth(p) for p in by_stage[stage].parents if p in by_stage), default=0)
        return depths[stage]

    return tuple(sorted(by_stage.values(), key=lambda step: (depth(step.stage), step.stage)))


def _parents(connection: psycopg.Connection, ids: list[int]) -> tuple[dict[int, set[str]], list[str]]:
    rows = connection.execute(
        """
        select i.attempt, a.stage, i.path, i.parent, p.stage
        from inputs i join attempts a on a.id = i.attempt left join attempts p on p.sha256 = i.parent
        where i.attempt = any(%s)
        """,
        (ids,),
    )
    found: dict[int, set[str]] = {}
    broken = []
    for attempt, stage, path, sha, parent in rows:
        if parent is None:
            broken.append(f"{stage}: who wrote its input {path} ({sha or 'unknown'})")
        else:
            found.setdefault(attempt, set()).add(parent)
    return found, broken


def _makers(connection: psycopg.Connection, shas: list[str]) -> dict[str | None, str]:
    rows = connection.execute(
        "select a.sha256, r.run_id from attempts a join runs r on r.id = a.run where a.sha256 = any(%s)", (shas,)
    )
    return dict(rows.fetchall())


def _outputs(connection: psycopg.Connection, ids: list[int]) -> dict[int, list[Output]]:
    rows = connection.execute(
        """
        select o.attempt, o.path, t.md5, t.bytes, t.files, t.rows
        from outputs o join trees t on t.id = o.tree where o.attempt = any(%s) order by o.path
        """,
        (ids,),
    )
    found: dict[int, list[Output]] = {}
    for attempt, *output in rows:
        found.setdefault(attempt, []).append(Output(*output))
    return found


def _files(connection: psycopg.Connection, ids: list[int]) -> tuple[RawFile, ...]:
    rows = connection.execute(
        """
        select o.path || '/' || p.path, f.md5, f.rows, f.first, f.last
        from outputs o join entries e on e.tree = o.tree join paths p on p.id = e.path join files f on f.id = e.file
        where o.attempt = any(%s) and o.path = %s order by p.path
        """,
        (ids, RAW),
    )
    return tuple(RawFile(*row) for row in rows)


def _sources(connection: psycopg.Connection, ids: list[int]) -> tuple[SourceRead, ...]:
    rows = connection.execute(
        "select name, place, md5, rows from sources where attempt = any(%s) order by name", (ids,)
    )
    return tuple(SourceRead(*row) for row in rows)


def _first(facts: Any, key: str) -> dict[str, Any] | None:
    return next((fact[key] for fact in facts if fact.get(key)), None)


def _validation(facts: Any, run_id: str, home: Path) -> dict[str, Any] | None:
    from pipeline.runs.folders import record_folder

    found = _first(facts, "validation")
    report = record_folder(home, run_id) / "reports" / "validation" / "index.html"
    return None if found is None else {**found, "report": str(report) if report.exists() else None}
