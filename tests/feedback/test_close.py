"""Closing: exactly once, whatever arrives late and whoever is killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from psycopg.types.json import Jsonb

from pipeline.data.feedback import closed_state, feedback_digests, feedback_folder, read_feedback
from pipeline.data.schema import read_table
from pipeline.exit_codes import DataBrokeContract
from pipeline.feedback.check import check_partitions
from pipeline.feedback.close import close_feedback
from pipeline.settings import CHECKOUT, Settings
from tests.feedback.conftest import NOON, Send
from tests.stages_by_hand import bytes_of

# Ends itself with SIGKILL before the n-th file gets its name, or before the n-th row of `feedback_partitions`.
KILLED = """
import os, pathlib, signal, sys
from pipeline.feedback import close
import polars as pl
calls, at = 0, int(sys.argv[1])
def step():
    global calls
    calls += 1
    if calls == at:
        os.kill(os.getpid(), signal.SIGKILL)
original, commit = pathlib.Path.replace, close._commit
def replace(self, target):
    step()
    return original(self, target)
def committed(*words):
    step()
    return commit(*words)
pathlib.Path.replace, close._commit = replace, committed
# the contract has its own tests, and takes seconds to import
close._checked = lambda events, name: (events, events.clear().with_columns(rule=pl.lit(None, pl.String)))
from pipeline.settings import settings
close.close_feedback(settings())
"""


def test_events_land_in_the_partition_of_their_day(home: Settings, send: Send) -> None:
    send("e1", "impression", request_id="r1", context=Jsonb({"source": "model", "position": 0}))
    send("e2", happened_at=NOON + timedelta(seconds=5), request_id="r1")
    send("e3", "rating", NOON + timedelta(days=1), value=4.5)
    send("e3", "rating", NOON + timedelta(days=1), value=1.0)  # sent again: the first counts
    done = close_feedback(home)
    assert [(str(p.day), p.version, p.rows) for p in done.partitions] == [("2026-01-02", 1, 2), ("2026-01-03", 1, 1)]
    folder = feedback_folder(home.home, "harbour")
    first = read_table(folder / "2026-01-02.parquet")
    assert first["event"].to_list() == ["impression", "click"]
    assert first["context"].to_list() == ['{"position": 0, "source": "model"}', None]
    assert read_table(folder / "2026-01-03.parquet")["value"].to_list() == [4.5]
    assert check_partitions(home) == 2


def test_nothing_new_changes_nothing(home: Settings, send: Send) -> None:
    send("e1")
    assert close_feedback(home)
    before = bytes_of(home.home / "feedback")
    assert not close_feedback(home)
    assert bytes_of(home.home / "feedback") == before


def test_a_late_event_changes_its_own_day(home: Settings, send: Send) -> None:
    send("e1")
    send("e2", happened_at=NOON + timedelta(days=1))
    close_feedback(home)
    folder = feedback_folder(home.home, "harbour")
    untouched = (folder / "2026-01-03.parquet").read_bytes()
    send("late", "purchase", NOON - timedelta(hours=1), received_at=NOON + timedelta(days=2), value=12.0)
    done = close_feedback(home)
    assert [(str(p.day), p.version, p.rows) for p in done.partitions] == [("2026-01-02", 2, 2)]
    assert read_table(folder / "2026-01-02.parquet")["event_id"].to_list() == ["late", "e1"]
    assert (folder / "2026-01-03.parquet").read_bytes() == untouched


def test_the_order_of_arrival_leaves_no_trace(home: Settings, send: Send, tmp_path: Path) -> None:
    """Exactly the same bytes, whichever way events came and however often they were closed in between."""
    events = [(f"e{n}", ("click", "impression", "dislike")[n % 3], NOON + timedelta(minutes=n % 4)) for n in range(9)]
    for event in events:
        send(*event)
    close_feedback(home)
    once = (feedback_folder(home.home, "harbour") / "2026-01-02.parquet").read_bytes()
    elsewhere = home.model_copy(update={"home": tmp_path / "elsewhere"})
    from pipeline.lineage.database import connected

    with connected() as connection:
        connection.execute("truncate feedback, feedback_partitions")
    for event in reversed(events):
        send(*event)
        close_feedback(elsewhere)
    assert (feedback_folder(elsewhere.home, "harbour") / "2026-01-02.parquet").read_bytes() == once


@pytest.mark.parametrize("at", range(1, 7))
def test_killed_at_any_step_it_is_repeated_to_the_same_bytes(
    home: Settings, send: Send, tmp_path: Path, at: int
) -> None:
    for number in range(6):
        send(f"e{number}", happened_at=NOON + timedelta(hours=6 * number))
    child = subprocess.run(
        [sys.executable, "-c", KILLED, str(at)], cwd=CHECKOUT, env=os.environ | {"PYTHONPATH": str(CHECKOUT)}
    )
    assert child.returncode == -9
    close_feedback(home)
    folder = feedback_folder(home.home, "harbour")
    whole = read_feedback(home.home, "harbour").events
    assert sorted(whole["event_id"]) == [f"e{number}" for number in range(6)]
    assert not close_feedback(home)
    # a closing that nobody disturbed gives the same
    from pipeline.lineage.database import connected

    with connected() as connection:
        versions = connection.execute("select max(version) from feedback_partitions").fetchone()
        connection.execute("truncate feedback_partitions")
    assert versions == (1,)
    calm = home.model_copy(update={"home": tmp_path / "calm"})
    close_feedback(calm)
    for name in ("2026-01-02.parquet", "2026-01-03.parquet", "closed.json"):
        assert (folder / name).read_bytes() == (feedback_folder(calm.home, "harbour") / name).read_bytes()


def test_what_breaks_the_contract_goes_to_quarantine(home: Settings, send: Send) -> None:
    send("good")
    send("blank", item_id="  ")
    send("from the future", received_at=NOON - timedelta(days=1))
    send("clock ahead", received_at=NOON - timedelta(seconds=3), item_id="h2")
    [partition] = close_feedback(home).partitions
    assert (partition.rows, partition.quarantined) == (4, 2)
    folder = feedback_folder(home.home, "harbour")
    kept = read_table(folder / "2026-01-02.parquet")
    assert sorted(kept["event_id"]) == ["clock ahead", "good"]
    rules = read_table(folder / "quarantine" / "2026-01-02.parquet").select("event_id", "rule").rows()
    assert sorted(rules) == [("blank", "item_id_blank"), ("from the future", "created_before_timestamp")]
    with pytest.raises(DataBrokeContract, match=r"harbour 2026-01-02: 2 of 4 events \(50.0%\)"):
        check_partitions(home)


def test_versions_that_nobody_reads_go_away(home: Settings, send: Send) -> None:
    versions = feedback_folder(home.home, "harbour") / "versions"
    for number in range(3):
        send(f"e{number}", happened_at=NOON + timedelta(minutes=number))
        close_feedback(home)
        if number == 0:
            feedback_digests(home.home, ["harbour"], NOON + timedelta(days=1))  # a run was opened with this one
    assert len(list(versions.glob("*.parquet"))) == 3
    for path in versions.glob("*.parquet"):
        os.utime(path, (0, 0))
    pinned = json.loads(next(versions.glob("*.json")).read_text())["days"]["2026-01-02"]
    send("e3", happened_at=NOON + timedelta(hours=1))
    close_feedback(home)
    current = closed_state(versions.parent)["days"]["2026-01-02"]
    assert {path.stem for path in versions.glob("*.parquet")} == {pinned, current}


def test_an_altered_partition_is_found(home: Settings, send: Send) -> None:
    send("e1")
    close_feedback(home)
    [version] = (feedback_folder(home.home, "harbour") / "versions").glob("*.parquet")
    version.write_bytes(version.read_bytes() + b" ")
    with pytest.raises(DataBrokeContract, match="altered"):
        check_partitions(home)
