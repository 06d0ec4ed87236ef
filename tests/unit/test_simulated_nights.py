"""What ends a simulation: a red night, a service that is not ready, an option that is none; each says what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.data.world.params import END
from pipeline.exit_codes import BROKE, DataBrokeContract, PassingFault, StageError
from pipeline.runs.attempt import write_json
from pipeline.runs.workspace import record_path
from pipeline.settings import Settings
from pipeline.simulation import night
from pipeline.simulation.night import Nights
from pipeline.simulation.service import serving

RUN = "manual__2026-01-02T00:00:00+00:00"


class Airflow:
    """An Airflow whose runs of one DAG fail."""

    red, task = "retrain", "validate"
    asked: ClassVar[list[tuple[str, dict[str, Any]]]] = []

    def __init__(self, address: str, user: str, password: str, dag: str) -> None:
        self.dag = dag

    def await_dag(self) -> None: ...

    def trigger(self, conf: dict[str, Any]) -> str:
        self.asked.append((self.dag, conf))
        return RUN

    def run_state(self, run_id: str) -> str:
        return "failed" if self.dag == self.red else "success"

    def tasks(self, run_id: str) -> list[dict[str, Any]]:
        return [{"task_id": self.task, "map_index": -1, "state": "failed", "duration": 1.0}]


@pytest.fixture
def nights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Nights:
    monkeypatch.setattr(Airflow, "asked", [])
    monkeypatch.setattr(night, "AirflowApi", Airflow)
    monkeypatch.setattr(night, "airflow_login", lambda settings: ("admin", "x"))
    return Nights(Settings(home=tmp_path), "/data", ["harbour"], ["pretrain.epochs=2"])


def test_a_failed_retrain_has_its_stages_code_and_sentence_and_says_where_its_log_is(nights: Nights) -> None:
    record = record_path(nights.settings, RUN)
    (record / "run").mkdir(parents=True)
    (record / "run.yaml").write_text(yaml.safe_dump({"run_id": RUN, "targets": ["harbour"]}))
    attempt = {"ended": "2026-01-02T00:00:00", "exit_code": 65, "message": "12 rows broke"}
    write_json(record / "run" / "attempts" / "validate" / "1.json", attempt)
    with pytest.raises(DataBrokeContract) as found:
        nights.after(END, lambda text: None)
    for told in ("retrain", "validate (12 rows broke)", RUN, f"/dags/retrain/runs/{RUN}", "goes on with this night"):
        assert told in str(found.value)
    assert [dag for dag, _ in Airflow.asked] == ["feedback", "retrain"]
    asked = Airflow.asked[1][1]
    assert (asked["data"], asked["targets"], asked["as_of"]) == ("/data", ["harbour"], "2026-01-01T00:00:00Z")
    assert asked["overrides"][0] == "pretrain.warm_start=champion"
    assert asked["overrides"][-1] == "pretrain.epochs=2"  # the caller's go before ours


def test_a_failed_closing_ends_the_night_before_anything_is_learned(
    nights: Nights, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Airflow, "red", "feedback")
    monkeypatch.setattr(Airflow, "task", "check")
    with pytest.raises(StageError, match="feedback failed in check") as found:
        nights.after(END, lambda text: None)
    assert found.value.exit_code == BROKE
    assert [dag for dag, _ in Airflow.asked] == ["feedback"]


def test_a_service_that_is_not_ready_is_named(tmp_path: Path) -> None:
    address = "http://127.0.0.1:9"
    with (
        pytest.raises(PassingFault, match="is not ready"),
        serving(Settings(home=tmp_path), ["harbour"], address, tmp_path / "log"),
    ):
        pass


@pytest.mark.parametrize("words", [["--days", "0"], ["--users-per-day", "0"], ["--searching", "2"], ["--seed", "-1"]])
def test_what_is_no_number_of_anything_is_refused(words: list[str]) -> None:
    done = CliRunner().invoke(app, ["simulate", *words])
    assert done.exit_code == 2
    assert words[0] in done.output
