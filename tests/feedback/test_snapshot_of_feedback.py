"""snapshot reads closed feedback like any source; without any, nothing is different."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from pipeline.data.feedback import feedback_digests, feedback_folder
from pipeline.exit_codes import DataBrokeContract
from pipeline.feedback.close import close_feedback
from pipeline.settings import Settings
from tests.feedback.conftest import NOON, Send
from tests.stages_by_hand import bytes_of, run_validate, tables, take_snapshot

AS_OF = datetime(2026, 1, 4, tzinfo=UTC)
USER = "0123456789abcdef"


def taken(root: Path, home: Settings, as_of: datetime = AS_OF) -> Path:
    """A snapshot of a run that was opened now."""
    sources = feedback_digests(home.home, ["harbour", "orchard"], as_of)
    return take_snapshot(root, "world:tiny", as_of=as_of.isoformat(), sources=sources)


def item_of(root: Path) -> str:
    """An item of the world."""
    return tables(take_snapshot(root, "world:tiny"), "harbour")["items"]["item_id"][0]


def test_without_feedback_nothing_is_different(home: Settings, send: Send, tmp_path: Path) -> None:
    assert feedback_digests(home.home, ["harbour"], AS_OF) == {}
    plain = bytes_of(take_snapshot(tmp_path / "plain", "world:tiny", as_of=AS_OF.isoformat()))
    assert bytes_of(taken(tmp_path / "asked", home)) == plain
    send("e1", happened_at=AS_OF)  # feedback of a later day is none for this run
    close_feedback(home)
    assert bytes_of(taken(tmp_path / "later", home)) == plain


def test_feedback_is_a_source(home: Settings, send: Send, list_item: Send, tmp_path: Path) -> None:
    item = item_of(tmp_path / "world")
    send("e1", "impression", item_id=item)
    send("e2", "click", NOON + timedelta(seconds=1), item_id=item)
    send("e3", "rating", NOON + timedelta(seconds=2), item_id=item, value=2.5)
    send("e4", "dislike", NOON + timedelta(seconds=3), item_id="lamp")
    send("e5", "click", NOON + timedelta(seconds=4), item_id="nobody knows it")
    send("e6", "click", NOON + timedelta(seconds=5), item_id=item, received_at=AS_OF)  # not known in time
    list_item("lamp")
    list_item("later", listed_at=AS_OF)
    close_feedback(home)
    found = tables(taken(tmp_path / "run", home), "harbour")
    mine = found["interactions"].filter(pl.col("user_id") == USER)
    assert mine.select("item_id", "event", "value").rows() == [
        (item, "click", None), (item, "rating", 2.5), ("lamp", "dislike", None),
    ]  # fmt: skip
    assert found["items"].filter(pl.col("item_id").is_in(["lamp", "later"])).rows() == [
        ("lamp", "a brass lamp", ["kind:lamp"], None)
    ]
    assert found["users"].filter(pl.col("user_id") == USER)["attributes"].to_list() == [[]]


def test_it_keeps_the_contract(home: Settings, send: Send, tmp_path: Path) -> None:
    item = item_of(tmp_path / "world")
    for number, event in enumerate(("impression", "click", "purchase", "rating", "dislike")):
        send(f"e{number}", event, NOON + timedelta(seconds=number), item_id=item)
    close_feedback(home)
    summary, folders = run_validate(tmp_path / "valid", taken(tmp_path / "run", home), as_of=AS_OF.isoformat())
    assert summary.facts["validation"]["quarantined"] == {}
    valid = tables(folders["data/valid"], "harbour")["interactions"].filter(pl.col("user_id") == USER)
    assert valid["event"].to_list() == ["click", "purchase", "rating", "dislike"]


def test_a_run_reads_what_it_was_opened_with(home: Settings, send: Send, tmp_path: Path) -> None:
    item = item_of(tmp_path / "world")
    send("e1", item_id=item)
    close_feedback(home)
    pinned = feedback_digests(home.home, ["harbour"], AS_OF)

    def again(name: str) -> dict[str, bytes]:
        return bytes_of(take_snapshot(tmp_path / name, "world:tiny", as_of=AS_OF.isoformat(), sources=pinned))

    first = again("first")
    send("late", "purchase", NOON + timedelta(hours=1), item_id=item)
    close_feedback(home)
    assert again("second") == first
    assert feedback_digests(home.home, ["harbour"], AS_OF) != pinned
    assert json.loads(first["dataset.json"])["sources"] == pinned
    for version in (feedback_folder(home.home, "harbour") / "versions").glob("*.parquet"):
        version.unlink()
    with pytest.raises(DataBrokeContract, match="is gone"):
        again("third")
