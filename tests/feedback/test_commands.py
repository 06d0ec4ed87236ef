"""`warmstart feedback` as a person and a task use it."""

from __future__ import annotations

import json

from typer.testing import CliRunner

from pipeline.exit_codes import NOT_PROMOTED
from pipeline.feedback.commands import app
from pipeline.settings import Settings
from tests.feedback.conftest import Send


def test_close_check_and_drift(home: Settings, send: Send) -> None:
    runner = CliRunner()
    send("e1")
    done = runner.invoke(app, ["close", "--or-skip"], catch_exceptions=False)
    assert (done.exit_code, done.stdout) == (0, "harbour 2026-01-02: version 1, 1 events, 0 quarantined\n")
    again = runner.invoke(app, ["close", "--or-skip"])
    assert (again.exit_code, again.stdout) == (NOT_PROMOTED, "nothing has changed\n")
    assert json.loads(runner.invoke(app, ["close", "--json"]).stdout) == {"partitions": [], "items": []}
    assert runner.invoke(app, ["check"]).stdout == "1 partitions as they were closed\n"
    drift = runner.invoke(
        app, ["drift", "orchard", "--retrain"], catch_exceptions=False
    )  # no champion: nothing to judge
    assert (drift.exit_code, drift.stdout) == (0, "")
    assert (home.home / "feedback" / "drift" / "index.html").exists()
