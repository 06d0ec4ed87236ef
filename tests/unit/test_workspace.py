"""A run is a workspace: one commit, its own parameters, a shared cache; refused where it cannot be what was asked."""

from __future__ import annotations

import os
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from pipeline.exit_codes import BadConfiguration
from pipeline.runs.close import _remove_old
from pipeline.runs.reproduce import reproduce_stage
from pipeline.runs.workspace import RunRequest, open_workspace, run_record
from pipeline.settings import CHECKOUT, Settings

AS_OF = datetime(2026, 1, 1, tzinfo=UTC)


def git(folder: Path, *words: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    return subprocess.run(
        ["git", "-C", folder, *identity, *words], check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def clone(tmp_path):
    """A checkout of this commit that a test may change."""
    subprocess.run(["git", "clone", "--quiet", CHECKOUT, tmp_path / "clone"], check=True)
    return tmp_path / "clone"


@pytest.fixture
def home(tmp_path):
    return Settings(home=tmp_path / "home")


def request(run_id: str = "a-run", **changes) -> RunRequest:
    return RunRequest(run_id, **{"as_of": AS_OF, "data": "world:tiny", **changes})


def test_a_workspace_is_a_clean_checkout_with_the_runs_own_parameters(clone, home):
    (clone / "untracked.py").write_text("not part of a run")
    workspace = open_workspace(home, request(overrides=("pretrain.epochs=3",), targets=("harbour",)), clone)
    assert not (workspace / ".git").exists()
    assert not (workspace / "untracked.py").exists()
    params = yaml.safe_load((workspace / "params.yaml").read_text())
    assert params["pretrain"]["epochs"] == 3
    assert params["targets"] == ["harbour"]
    assert params["as_of"] == "2026-01-01T00:00:00Z"
    run = run_record(workspace)
    assert run["commit"] == git(clone, "rev-parse", "HEAD")
    assert yaml.safe_load((clone / "params.yaml").read_text())["targets"] == ["harbour", "orchard"]


def test_opening_twice_gives_the_same_workspace(clone, home):
    first = open_workspace(home, request(), clone)
    (first / "mark").write_text("still here")
    assert open_workspace(home, request(overrides=("seed=9",)), clone) == first
    assert (first / "mark").exists()


def test_uncommitted_changes_are_not_part_of_a_run_and_it_says_so(clone, home, caplog):
    (clone / "README.md").write_text("changed")
    workspace = open_workspace(home, request(), clone)
    assert (workspace / "README.md").read_text() != "changed"
    assert "README.md" in caplog.text


def test_a_ref_whose_graph_differs_is_refused_with_the_stages(clone, home):
    path = clone / "dvc.yaml"
    path.write_text(
        path.read_text().replace("timeout: 6h", "timeout: 9h").replace("outs: [data/valid,", "outs: [data/v,")
    )
    git(clone, "checkout", "--quiet", "-b", "other")
    git(clone, "commit", "--quiet", "-am", "another graph")
    git(clone, "checkout", "--quiet", "-")
    with pytest.raises(
        BadConfiguration, match="differs from the one the DAG was rendered from, in: features, pretrain"
    ):
        open_workspace(home, request(git_ref="other"), clone)
    assert not (home.home / "runs").exists()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"git_ref": "no-such"}, "git ref 'no-such' is not in"),
        ({"targets": ("harbor",)}, "no target domain harbor; its targets are: harbour, orchard"),
        ({"overrides": ("pretrain.lerning_rate=1",)}, r"did you mean pretrain\.learning_rate"),
        ({"overrides": ("pretrain.epochs=-1",)}, r"pretrain\.epochs is -1"),
        ({"data": "world:giant"}, "giant"),
        ({"data": "nowhere"}, "nowhere does not exist"),
    ],
)
def test_what_cannot_be_meant_is_refused_and_leaves_no_workspace(clone, home, changes, sentence):
    with pytest.raises(BadConfiguration, match=sentence):
        open_workspace(home, request(**changes), clone)
    assert not (home.home / "runs" / "a-run").exists()
    assert not list(home.home.glob("opening-*"))


def test_a_home_that_cannot_be_written_is_a_sentence(clone, tmp_path):
    from pipeline.runs.faults import explain

    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="file") as fault:
        open_workspace(Settings(home=tmp_path / "file" / "home"), request(), clone)
    assert explain(fault.value)[1]


def test_the_workspaces_share_a_cache_but_no_files(clone, home, monkeypatch):
    # there is no server here
    monkeypatch.setattr("pipeline.runs.attempt_end.track_stage", lambda workspace, manifest: "an id")
    one, two = (open_workspace(home, request(name), clone) for name in ("one", "two"))
    assert reproduce_stage(one, "snapshot", home.home) == 0
    assert reproduce_stage(two, "snapshot", home.home) == 0
    assert len(list((one / "run/attempts/snapshot").iterdir())) == 1
    assert not (two / "run/attempts/snapshot").exists()  # restored, not run
    restored = next((two / "data/snapshot").rglob("interactions/*.parquet"))
    assert restored.read_bytes() == (one / restored.relative_to(two)).read_bytes()


def test_the_stages_own_exit_code_comes_through_dvc(clone, home, tmp_path):
    (tmp_path / "dataset.yaml").write_text(yaml.safe_dump({"name": "w", "world": {"size": "tiny"}}))
    workspace = open_workspace(home, request(data=str(tmp_path), as_of=datetime(1999, 1, 1, tzinfo=UTC)), clone)
    assert reproduce_stage(workspace, "snapshot", home.home) in (65, 78)  # an as_of before the first row


def test_failed_workspaces_are_kept_for_as_long_as_the_settings_say(clone, home):
    old, new = (open_workspace(home, request(name), clone) for name in ("old", "new"))
    for name, days in (("old", 8), ("new", 6)):
        record = home.home / "records" / name
        record.mkdir(parents=True)
        (record / "run.yaml").write_text("finished: false\n")
        moment = time.time() - days * 86_400
        os.utime(record / "run.yaml", (moment, moment))
    killed = home.home / "runs" / ".before.closed"  # of a close that was killed
    killed.mkdir()
    _remove_old(home)
    assert not old.exists() and not killed.exists()
    assert new.exists()
    assert (home.home / "records" / "old" / "run.yaml").exists()
