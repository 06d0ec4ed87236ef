"""The files that may hold a row are opened where the cache or the remote still has them, as far as a second goes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.lineage.cache import find

if TYPE_CHECKING:
    from pathlib import Path

    from pipeline.settings import Settings

# A file costs about a millisecond and another for every 10,000 rows, in threads or not: half a second at both limits.
FILES, ROWS = 200, 2_000_000
ROWS_AT_ONCE = 262_144  # a row group of `data.schema.write_table`: of a larger file, sorted by user, one is read


@dataclass(frozen=True)
class OpenedFiles:
    """What was found in files, by their md5.

    Attributes:
        rules: of the files that were opened: rule that matching rows broke ("" where the file names none) -> how many.
        gone: neither in the cache nor in the remote any more.
        left: not opened, since enough were.
    """

    rules: dict[str, Counter[str]]
    gone: tuple[str, ...]
    left: tuple[str, ...]


def open_files(
    settings: Settings,
    candidates: Iterable[tuple[str, int | None]],
    users: Sequence[str],
    item: str | None,
    every: bool = False,
) -> OpenedFiles:
    """Count the rows of `users` (with `item`) in each file.

    Args:
        candidates: md5 and rows, in the order in which they are worth opening; one that comes again is opened once.
        every: without a limit.
    """
    rules: dict[str, Counter[str]] = {}
    gone, left = [], []
    rows_read = 0
    for md5, rows in dict(candidates).items():
        cost = min(rows or 0, ROWS_AT_ONCE)
        if not every and (len(rules) >= FILES or rows_read + cost > ROWS):
            left.append(md5)
        elif (path := find(settings, md5)) is None:
            gone.append(md5)
        else:
            rules[md5] = _rows_in(path, users, item)
            rows_read += cost
    return OpenedFiles(rules, tuple(gone), tuple(left))


def _rows_in(path: Path, users: Sequence[str], item: str | None) -> Counter[str]:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        names = file.schema_arrow.names
        if "user_id" not in names or (item is not None and "item_id" not in names):
            return Counter()
        groups = _groups_with(file.metadata, names.index("user_id"), users)
        table = file.read_row_groups(groups, columns=[c for c in ("user_id", "item_id", "rule") if c in names])
    keep = pc.is_in(table["user_id"], value_set=pa.array(users, pa.string()))
    if item is not None:
        keep = pc.and_(keep, pc.equal(table["item_id"], item))
    table = table.filter(keep)
    rules = table["rule"].to_pylist() if "rule" in names else [""] * len(table)
    return Counter(rule or "" for rule in rules)


def _groups_with(metadata: Any, column: int, users: Sequence[str]) -> list[int]:
    """Row groups that may hold one of `users`."""
    bounds = [metadata.row_group(group).column(column).statistics for group in range(metadata.num_row_groups)]
    return [
        group
        for group, known in enumerate(bounds)
        if known is None or not known.has_min_max or any(known.min <= user <= known.max for user in users)
    ]
