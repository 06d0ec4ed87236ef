"""Closed feedback as files: what a run is opened with, and what its snapshot reads.

    $WARMSTART_HOME/feedback/<target>/2026-01-02.parquet    the events of that day, as they are known now
    …/<target>/items.parquet                                items that the service was told of
    …/<target>/quarantine/2026-01-02.parquet                what broke the contract, with the rule
    …/<target>/closed.json                                  sha256 of the current ones
    …/<target>/versions/<sha256>.parquet                    every one that ever was current; never changed
    …/<target>/versions/<md5>.json                          what a run was opened with

A day that gets a late event is closed again, also while a run is under way. So a run pins versions: its parameter
`sources` has `<target>/feedback`, the md5 of a listing of versions, and a retry next week reads the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pipeline.data.schema import MOMENT, SCHEMAS, TableName, read_table, write_table
from pipeline.exit_codes import DataBrokeContract

if TYPE_CHECKING:
    import polars as pl

log = logging.getLogger(__name__)
SOURCE = "feedback"  # `<target>/feedback` in the parameter `sources`
IMPRESSION = "impression"  # was shown; kept in the partition, and no interaction
CLOSED = "closed.json"
EVENT_SCHEMA = pa.schema(
    [
        *SCHEMAS["interactions"],  # timestamp: when it happened; created_at: when the service received it
        ("event_id", pa.string()),
        ("request_id", pa.string()),
        ("context", pa.string()),  # JSON, keys sorted
    ]
)
ITEM_SCHEMA = pa.schema([*SCHEMAS["items"], ("listed_at", MOMENT)])


@dataclass(frozen=True)
class Feedback:
    """The closed feedback of one target: `events` has the columns of EVENT_SCHEMA, `items` those of ITEM_SCHEMA."""

    events: pl.DataFrame
    items: pl.DataFrame


def feedback_folder(home: Path, target: str) -> Path:
    """Where the closed feedback of a target is."""
    return home / SOURCE / target


def version_path(folder: Path, digest: str, ending: str = "parquet") -> Path:
    """Where a target's folder keeps the content with this digest."""
    return folder / "versions" / f"{digest}.{ending}"


def is_feedback(source: str) -> bool:
    """Whether the name of a source is that of a target's feedback."""
    return source.endswith(f"/{SOURCE}")


def feedback_digests(home: Path, targets: Iterable[str], as_of: datetime) -> dict[str, str]:
    """`<target>/feedback` for every target that has any from before `as_of`; each pinned for the run that is opened.

    Days from `as_of` on are left out, and items listed from then on, so that a backfill is the same however much
    feedback came after it.
    """
    found: dict[str, str] = {}
    for target in targets:
        folder = feedback_folder(home, target)
        closed = closed_state(folder)
        days = {day: sha for day, sha in closed["days"].items() if _start(day) < as_of}
        items = _items_known(folder, days.values(), closed["items"], as_of) if closed["items"] else None
        if not days and items is None:
            continue
        content = json.dumps({"days": days, "items": items}, indent=1, sort_keys=True).encode()
        digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
        write_whole(version_path(folder, digest, "json"), content)
        found[f"{target}/{SOURCE}"] = digest
    return found


def closed_state(folder: Path) -> dict[str, Any]:
    """`closed.json`: sha256 of the current partition of each day (`days`) and of the listed items (`items`)."""
    path = folder / CLOSED
    return json.loads(path.read_text("utf-8")) if path.exists() else {"days": {}, "items": None}


def read_feedback(home: Path, target: str, digest: str | None = None) -> Feedback:
    """The feedback that `digest` pinned; None reads what is closed now.

    Raises:
        DataBrokeContract: a pinned file is gone or altered.
    """
    import polars as pl

    folder = feedback_folder(home, target)
    state = closed_state(folder) if digest is None else json.loads(_pinned(folder, digest, "json"))
    days = [_frame(folder, sha) for _, sha in sorted(state["days"].items())]
    items = [_frame(folder, state["items"])] if state["items"] else []
    return Feedback(pl.concat([_empty(EVENT_SCHEMA), *days]), pl.concat([_empty(ITEM_SCHEMA), *items]))


def with_feedback(
    tables: Mapping[TableName, pl.DataFrame], closed: Feedback, as_of: datetime
) -> tuple[dict[TableName, pl.DataFrame], pl.DataFrame]:
    """A domain's tables (pseudonymised, as pseudonyms are final in feedback) with what its users did since.

    An item is known that was listed before `as_of`, or that somebody took before it. Events on items that are in no
    table are left out: the shop has taken the item away, which is no fault of the feedback.

    Returns:
        the tables, and the interactions that were added.
    """
    import polars as pl

    taken = _taken(closed.events, as_of).select(SCHEMAS["interactions"].names)
    listed = _known(closed.items, taken, as_of).drop("listed_at")
    new = listed.join(tables["items"], on="item_id", how="anti", maintain_order="left")
    items = pl.concat([tables["items"], new], how="diagonal")
    added = taken.join(items, on="item_id", how="semi", maintain_order="left")
    if len(added) < len(taken):
        log.warning("feedback: %s events on items that are not in the catalogue", f"{len(taken) - len(added):,}")
    strangers = added.select("user_id").unique(maintain_order=True)
    strangers = strangers.join(tables["users"], on="user_id", how="anti", maintain_order="left")
    users = strangers.with_columns(attributes=pl.lit([], dtype=pl.List(pl.String)))
    more: dict[TableName, pl.DataFrame] = {
        "interactions": pl.concat([tables["interactions"], added], how="diagonal"),
        "items": items,
        "users": pl.concat([tables["users"], users]),
    }
    return more, added


def _taken(events: pl.DataFrame, as_of: datetime) -> pl.DataFrame:
    import polars as pl

    known = events.filter(pl.col("timestamp") < as_of, pl.col("created_at") < as_of)
    return known.filter(pl.col("event") != IMPRESSION)


def _known(items: pl.DataFrame, taken: pl.DataFrame, as_of: datetime) -> pl.DataFrame:
    import polars as pl

    was_taken = pl.col("item_id").is_in(taken["item_id"].unique().implode())
    return items.filter((pl.col("listed_at") < as_of) | was_taken)


def _items_known(folder: Path, days: Iterable[str], items: str, as_of: datetime) -> str | None:
    """The version of the listed items that has those known at `as_of`; None when none is."""
    import polars as pl

    listed = _frame(folder, items)
    events = pl.concat([_empty(EVENT_SCHEMA), *(_frame(folder, day) for day in days)])
    known = _known(listed, _taken(events, as_of), as_of)
    if len(known) in (0, len(listed)):
        return items if len(known) else None
    draft = folder / "versions" / f".known.{os.getpid()}"
    write_table(known, draft, ITEM_SCHEMA)
    sha = hashlib.sha256(draft.read_bytes()).hexdigest()
    draft.replace(version_path(folder, sha))
    return sha


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that is there whole or not at all, and survives a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with draft.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def _start(day: str) -> datetime:
    return datetime.fromisoformat(day).replace(tzinfo=UTC)


def _pinned(folder: Path, digest: str, ending: str) -> bytes:
    path = version_path(folder, digest, ending)
    kind = "sha256" if ending == "parquet" else "md5"
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise DataBrokeContract(
            f"{path}, which this run was opened with, is gone: restore it from a backup, or start a new run."
        ) from error
    if hashlib.new(kind, content, usedforsecurity=False).hexdigest() != digest:
        raise DataBrokeContract(f"{path} has been altered: its content does not give its name ({kind}); restore it.")
    return content


def _frame(folder: Path, sha: str) -> pl.DataFrame:
    _pinned(folder, sha, "parquet")
    return read_table(version_path(folder, sha))


def _empty(schema: pa.Schema) -> pl.DataFrame:
    import polars as pl

    frame = pl.from_arrow(schema.empty_table())
    assert isinstance(frame, pl.DataFrame)
    return frame
