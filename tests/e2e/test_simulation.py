"""One simulated day and its night: the loop from a click to a registered model, through the real Airflow."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from pipeline.data.feedback import closed_state, feedback_folder
from pipeline.exit_codes import BadConfiguration
from pipeline.feedback.baseline import VALID
from pipeline.lineage.cache import find, listing
from pipeline.lineage.database import connected
from pipeline.registry.champion import ALIAS
from pipeline.registry.commands import promote
from pipeline.runs.tracking import client
from pipeline.simulation.play import Asked, simulate
from tests.e2e.conftest import QUICK, Ended, Night

TARGET, DAY, USERS = "harbour", "2026-01-01", 30
# the champion of the first run serves at the beginning, and one target is enough
ASKED = Asked(days=1, data="world:tiny", targets=(TARGET,), users_per_day=USERS, overrides=tuple(QUICK))


@pytest.fixture(scope="module")
def out(night: Night, first: Ended, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a simulation that is over."""
    if champion() is None:
        receipt = json.loads((first.record / "receipts/register" / TARGET / "receipt.json").read_text())
        promote(f"rec-{TARGET}/{receipt['version']}", "two epochs do not convince the gate", force=True)
    serving = champion()
    folder = tmp_path_factory.mktemp("simulation") / "out"
    simulate(night.settings, Asked(**{**vars(ASKED), "out": str(folder)}))
    (folder / "began with").write_text(f"rec-{TARGET}/{serving}")
    return folder


def champion() -> str | None:
    """Version that serves."""
    return client().get_registered_model(f"rec-{TARGET}").aliases.get(ALIAS)


def told(out: Path) -> tuple[dict, list[dict]]:
    """How the night ended, and the day's visits."""
    days = out / "days"
    visits = [json.loads(line) for line in (days / f"{DAY}.jsonl").read_text().splitlines()]
    return json.loads((days / f"{DAY}.json").read_text()), visits


def test_the_day_is_in_the_picture(out: Path) -> None:
    [row] = json.loads((out / "figures.json").read_text())["targets"][TARGET]["days"]
    assert (row["day"], row["n"]) == (DAY, USERS)
    assert list(row["models"]) == [(out / "began with").read_text()]
    assert set(row["sources"]) == {"model", "profile"}  # three users are new
    assert row["night"]["verdict"] in ("promote", "hold")
    assert "<svg" in (out / "index.html").read_text()


def test_the_dag_closed_the_day_once_and_updated_its_asset(night: Night, out: Path) -> None:
    ended, visits = told(out)
    run = f"/api/v2/dags/feedback/dagRuns/{ended['feedback_run']}"
    tasks = night.api._get(f"{run}/taskInstances")["task_instances"]
    assert {task["task_id"]: task["state"] for task in tasks} == dict.fromkeys(("close", "check", "drift"), "success")
    [event] = night.api._get("/api/v2/assets/events", params={"source_run_id": ended["feedback_run"]})["asset_events"]
    assert (event["source_dag_id"], event["source_task_id"]) == ("feedback", "close")
    with connected() as connection:
        closed = connection.execute("select target, day::text, version, rows from feedback_partitions").fetchall()
    events = sum(len(visit["shown"]) + (visit["taken"] is not None) for visit in visits)
    assert closed == [(TARGET, DAY, 1, events)]
    assert list(closed_state(feedback_folder(night.settings.home, TARGET))["days"]) == [DAY]


def test_the_night_learned_the_day(night: Night, out: Path) -> None:
    ended, visits = told(out)
    run = Ended(ended["run"], "success", {}, night.settings)
    taken = sum(visit["taken"] is not None for visit in visits)
    assert ended["feedback_rows"] == {TARGET: taken} != {TARGET: 0}
    whole = find(night.settings, run.output_digests[VALID])
    assert whole is not None
    files = {file["relpath"]: find(night.settings, file["md5"]) for file in listing(whole)}
    january = pl.read_parquet(files[f"{TARGET}/interactions/2026-01.parquet"])
    assert january["event"].to_list() == ["click"] * taken
    items = pl.read_parquet(files[f"{TARGET}/items.parquet"])["item_id"]
    assert items.str.starts_with("hday1-").sum() == 3
    assert run.manifests["pretrain"]["parameters"]["pretrain"]["start"]  # continued, not begun anew


def test_what_is_over_is_not_played_again_and_nobody_else_plays_here(night: Night, out: Path, tmp_path: Path) -> None:
    before = told(out)
    simulate(night.settings, Asked(**{**vars(ASKED), "out": str(out)}))
    assert told(out) == before
    with pytest.raises(BadConfiguration, match="a home of its own"):
        simulate(night.settings, Asked(**{**vars(ASKED), "out": str(tmp_path / "another")}))
