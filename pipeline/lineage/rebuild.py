"""`warmstart lineage rebuild`: the index again, from the manifests alone, in one transaction.

Questions asked meanwhile are answered from the index as it was. What is no manifest, of another format or altered is
named and left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.exit_codes import BadConfiguration
from pipeline.lineage.database import connected
from pipeline.lineage.index import close_ancestry, load, lock_for_writing, users_of
from pipeline.runs.manifest_store import FORMAT, get, names, path_of

if TYPE_CHECKING:
    import psycopg

BATCH = 2000  # manifests that are in memory at once; some 20 MB
# children before their parents; the promotion log is not derived from manifests and stays
DERIVED = (
    "descent", "ancestry", "versions", "sources", "file_users", "entries", "outputs", "inputs", "attempts", "files",
    "trees", "paths", "runs",
)  # fmt: skip


@dataclass(frozen=True)
class Rebuilt:
    """What a rebuild found: how many manifests are in the index now, and a sentence for each that is not."""

    manifests: int
    left_out: tuple[str, ...]


def rebuild(
    home: Path, url: str | None = None, progress: Callable[[int, int], None] = lambda done, all: None
) -> Rebuilt:
    """Empty the index and fill it from `home`.

    Args:
        url: libpq's URL of the index, by default that of `settings()`.
        progress: told how many manifests of how many are done.

    Raises:
        PassingFault: PostgreSQL does not answer; the index is as it was.
    """
    shas = list(names(home))
    left_out: list[str] = []
    total, runs = 0, set[int]()
    with connected(url) as connection:
        lock_for_writing(connection)
        empty(connection)
        for start in range(0, len(shas), BATCH):
            batch = list(_readable(home, shas[start : start + BATCH], left_out))
            count, touched = load(connection, batch, users_of(home))
            total, runs = total + count, runs | touched
            if (start // BATCH + 1).bit_count() == 1:  # at 1, 2, 4, … batches
                measure(connection)
            progress(min(start + BATCH, len(shas)), len(shas))
        measure(connection)
        close_ancestry(connection, runs)
    settle(url)
    return Rebuilt(total, tuple(left_out))


def empty(connection: psycopg.Connection) -> None:
    """Delete what is derived from manifests. Not TRUNCATE: that would make every question wait for the end."""
    for table in DERIVED:
        connection.execute(f"delete from {table}")  # type: ignore[arg-type]


def measure(connection: psycopg.Connection) -> None:
    """Let the planner see the rows of this transaction: to it every table is empty until then."""
    for table in DERIVED:
        connection.execute(f"analyze {table}")  # type: ignore[arg-type]


def settle(url: str | None = None) -> None:
    """Vacuum and measure the tables after many rows changed, so that the next question is planned well."""
    with connected(url) as connection:
        connection.commit()
        connection.autocommit = True
        for table in DERIVED:
            connection.execute(f"vacuum analyze {table}")  # type: ignore[arg-type]


def _readable(home: Path, shas: Sequence[str], left_out: list[str]) -> Iterator[dict[str, Any]]:
    for sha in shas:
        try:
            manifest = get(home, sha)
        except (BadConfiguration, OSError) as fault:
            left_out.append(str(fault))
            continue
        if manifest.get("format") == FORMAT:
            yield manifest
        else:
            left_out.append(f"{path_of(home, sha)} is of format {manifest.get('format')}; this release reads {FORMAT}")
