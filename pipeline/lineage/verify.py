"""`lineage verify`: hash everything again that is known by a hash, and name what is missing or altered.

Manifests (and the index against them), the contents of every output in DVC's cache and in the remote when that is a
folder, and the reports and receipts in the record. Contents that are gone are listed and are no fault: caches are
collected. A content that is another one than its name says, or a manifest that is gone, is one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.data.file_md5 import file_md5
from pipeline.exit_codes import BadConfiguration
from pipeline.lineage.cache import object_path, stores
from pipeline.lineage.index import without_files
from pipeline.lineage.names import LATEST, run_named, versions_named
from pipeline.runs.folders import record_folder
from pipeline.runs.manifest_store import get, path_of

if TYPE_CHECKING:
    import psycopg

    from pipeline.settings import Settings

IN_RECORD = ("reports/", "receipts/")


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be; `kind` is manifest, index, content or record."""

    kind: str
    name: str
    problem: str


@dataclass(frozen=True)
class Verified:
    """What was found.

    Attributes:
        manifests, contents, record_files: how many were hashed and are what they should be.
        altered: other than their hash; also manifests that are gone.
        missing: contents that neither the cache nor the remote has, and records that are gone.
    """

    asked: str
    manifests: int
    contents: int
    record_files: int
    altered: tuple[Finding, ...]
    missing: tuple[Finding, ...]


def verify(
    connection: psycopg.Connection,
    settings: Settings,
    asked: str,
    progress: Callable[[int, int], None] = lambda done, all: None,
) -> Verified:
    """Check a run (every attempt of it) or a model version (every attempt it descends from), and their makers.

    Args:
        progress: told how many contents of how many are hashed.

    Raises:
        BadConfiguration: nothing is called `asked`.
    """
    altered: list[Finding] = []
    missing: list[Finding] = []
    manifests = [
        manifest
        for sha, facts in _attempts(connection, asked)
        if (manifest := _manifest(settings.home, sha, facts, altered)) is not None
    ]
    contents = 0
    wanted = _contents(manifests)
    for number, (md5, paths) in enumerate(wanted.items()):
        contents += _content(settings, md5, ", ".join(sorted(paths)), altered, missing)
        progress(number + 1, len(wanted))
    record_files = 0
    for run_id in sorted({m["run_id"] for m in manifests}):
        record_files += _record(settings.home, run_id, manifests, altered, missing)
    return Verified(asked, len(manifests), contents, record_files, tuple(altered), tuple(missing))


def _attempts(connection: psycopg.Connection, asked: str) -> list[tuple[str, dict[str, Any]]]:
    if asked.isdigit() or "@" in asked or "/" in asked:
        seeds = [attempt for attempt, _ in versions_named(connection, asked)]
        where = (
            "id in (select unnest(%(seeds)s::int[]) union select ancestor from ancestry where attempt = any(%(seeds)s))"
        )
        values: dict[str, Any] = {"seeds": seeds}
    else:
        where = "run = (select id from runs where run_id = %(run)s)"
        values = {"run": run_named(connection, LATEST if asked == LATEST else asked)}
    rows = connection.execute(
        f"""
        with asked as (select sha256, came_from, facts from attempts where {where})
        select sha256, facts from asked
        union all select a.sha256, a.facts from attempts a
        where a.sha256 in (select came_from from asked) and a.sha256 not in (select sha256 from asked)
        """,  # type: ignore[arg-type]
        values,
    )
    return rows.fetchall()


def _manifest(home: Path, sha: str, facts: dict[str, Any], altered: list[Finding]) -> dict[str, Any] | None:
    try:
        manifest = get(home, sha)
    except BadConfiguration as fault:
        altered.append(Finding("manifest", str(path_of(home, sha)), str(fault)))
        return None
    if without_files(manifest) != facts:
        problem = "the index says something else than the manifest; `warmstart lineage rebuild` makes it right"
        altered.append(Finding("index", sha, problem))
    return manifest


def _contents(manifests: Iterable[dict[str, Any]]) -> dict[str, set[str]]:
    """md5 of every folder and file that the manifests tell of -> where it stood."""
    stood: dict[str, set[str]] = {}
    for manifest in manifests:
        for path, out in manifest["outputs"].items():
            stood.setdefault(out["md5"], set()).add(path)
            for file in out.get("files") or ():
                stood.setdefault(file["md5"], set()).add(f"{path}/{file['path']}")
    return stood


def _content(settings: Settings, md5: str, path: str, altered: list[Finding], missing: list[Finding]) -> int:
    found = [place for store in stores(settings) if (place := object_path(store, md5)).exists()]
    if not found:
        missing.append(Finding("content", path, f"md5 {md5} is in neither the cache nor the remote"))
    whole = 0
    for place in found:
        actual = file_md5(place)
        if actual == md5.removesuffix(".dir"):
            whole = 1
        else:
            altered.append(Finding("content", path, f"{place} has the md5 {actual}"))
    return whole


def _record(
    home: Path, run_id: str, manifests: Iterable[dict[str, Any]], altered: list[Finding], missing: list[Finding]
) -> int:
    record = record_folder(home, run_id)
    if not record.exists():
        missing.append(Finding("record", str(record), "is not there; the manifests tell what it told"))
        return 0
    # of two attempts at a stage the record has what the later one wrote
    written = {
        path: out
        for m in sorted(manifests, key=lambda m: m["ended"]) if m["run_id"] == run_id
        for path, out in m["outputs"].items() if path.startswith(IN_RECORD)
    }  # fmt: skip
    whole = 0
    for path, out in written.items():
        for file in out.get("files") or ():
            place = record / path / file["path"]
            if not place.exists():
                missing.append(Finding("record", str(place), "is not there"))
            elif (actual := file_md5(place)) != file["md5"]:
                altered.append(Finding("record", str(place), f"has the md5 {actual}, its manifest says {file['md5']}"))
            else:
                whole += 1
    return whole
