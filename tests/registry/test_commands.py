"""`warmstart models …` as a person uses it."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from unittest.mock import patch

import psycopg
import pytest

from pipeline.cli import main
from pipeline.lineage.database import index_url
from pipeline.registry.champion import ALIAS, model_name
from pipeline.registry.promotion import promote
from pipeline.settings import settings


@pytest.fixture
def three(registry):
    """A target whose versions 1 and 2 were champions, and 3 was not."""
    target = registry.new_target()
    for number in (1, 2, 3):
        registry.add_version(target, f"run-{number}")
    for number in (1, 2):
        promote(
            registry.rest, target, number, number - 1 or None, f"run run-{number}", "better", "f" * 64, f"run-{number}"
        )
    return target


def models(*words: str) -> subprocess.CompletedProcess[str]:
    """`warmstart models …`, in this process: its imports are paid once."""
    argv = ["warmstart", "models", *words]
    out, err, code = io.StringIO(), io.StringIO(), 0
    settings.cache_clear()
    with (
        patch.object(sys, "argv", argv),
        patch.dict(os.environ, COLUMNS="200"),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as ended:
            code = int(ended.code or 0)
    settings.cache_clear()
    return subprocess.CompletedProcess(argv, code, out.getvalue(), err.getvalue())


def answer(*words: str):
    done = models(*words, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_rollback_is_one_command_and_in_the_log(registry, three):
    done = models("rollback", three, "--reason", "pictures are broken")
    assert done.returncode == 0, done.stderr
    assert f"rollback: {model_name(three)} 2 → 1" in done.stdout
    assert registry.alias(three) == 1
    entry = answer("history", three)[-1]
    assert entry["action"] == "rollback"
    assert entry["actor"].startswith("user ")
    assert (entry["reason"], entry["from_version"], entry["to_version"]) == ("pictures are broken", 2, 1)


def test_a_reason_is_asked_for(three):
    assert models("rollback", three).returncode == 2
    done = models("rollback", three, "--reason", " ")
    assert done.returncode == 78
    assert "--reason is empty" in done.stderr


def test_list_show_history(registry, three):
    found = answer("list", model_name(three))
    assert [(row["version"], row["champion"]) for row in found] == [(3, False), (2, True), (1, False)]
    shown = answer("show", f"{three}@champion")
    assert shown["tags"]["warmstart.run_id"] == "run-2"
    [span] = answer("show", f"{three}/1")["champion"]
    assert span["until"] is not None
    for words in (("list",), ("show", three), ("history",), ("history", three)):
        done = models(*words)
        assert done.returncode == 0, done.stderr
    assert "champion" in models("list", three).stdout


@pytest.mark.parametrize("command", ["list", "show", "history", "verify"])
def test_an_unknown_model_gets_the_nearest_names(three, command):
    done = models(command, f"{three}y")
    assert done.returncode == 78
    assert f"did you mean {model_name(three)}" in done.stderr


def test_an_unknown_version_gets_the_nearest_numbers(three):
    done = models("show", f"{three}/17")
    assert done.returncode == 78
    assert "has no version '17'; the nearest are 1, 2, 3" in done.stderr


def test_a_version_that_was_never_judged_needs_force(registry, three):
    done = models("promote", f"{three}/3", "--reason", "I like it")
    assert done.returncode == 65
    assert "was never judged" in done.stderr
    assert registry.alias(three) == 2
    done = models("promote", f"{three}/3", "--reason", "I like it", "--force")
    assert done.returncode == 0, done.stderr
    entry = registry.log(three)[-1]
    assert (entry.reason, entry.verdict_sha256, entry.to_version) == ("forced: I like it", None, 3)
    assert "champion already" in models("promote", f"{three}/3", "--reason", "again").stdout


def test_verify_names_what_was_tampered_with(registry, three):
    assert answer("verify", three) == {"entries": 2, "problems": []}
    registry.rest.set_alias(model_name(three), ALIAS, 3)
    done = models("verify", three)
    assert done.returncode == 65
    assert "alias points to version 3, the log says version 2" in done.stderr
    assert answer("list", three)[0]["champion"] is False  # repaired
    assert registry.alias(three) == 2
    with psycopg.connect(index_url(), autocommit=True) as connection:
        connection.execute("alter table promotions disable trigger all")
        connection.execute("update promotions set actor = 'user eve' where target = %s and to_version = 1", (three,))
        connection.execute("alter table promotions enable trigger all")
    done = models("verify", three)
    assert done.returncode == 65
    assert f"entry 1 of {three}" in done.stderr and "has been changed" in done.stderr
    assert models("rollback", three, "--reason", "?").returncode == 65


def test_servers_that_are_away(three, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    done = models("list")
    assert done.returncode == 75
    assert "MLflow at http://127.0.0.1:1 does not answer" in done.stderr
