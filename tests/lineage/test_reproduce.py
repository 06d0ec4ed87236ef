"""A model of the tiny world is made again, byte for byte, in a workspace that has only its manifests and the cache."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipeline.exit_codes import BadConfiguration, DataBrokeContract
from pipeline.lineage.cache import object_path
from pipeline.lineage.database import connected
from pipeline.lineage.rebuild import empty, rebuild
from pipeline.lineage.reproduce import run_again, set_up
from pipeline.lineage.verify import verify
from pipeline.runs.close import _keep_record
from pipeline.runs.folders import record_folder
from pipeline.runs.manifest import read_manifests
from pipeline.runs.manifest_store import path_of, put
from pipeline.runs.reproduce import reproduce_stage
from pipeline.runs.workspace import RunRequest, open_workspace
from pipeline.settings import CHECKOUT, Settings
from tests.postgres_fixture import running_postgres

RUN = "manual__tiny"
STAGES = (
    "snapshot",
    "validate",
    "features",
    "embed",
    "pretrain",
    "augment@harbour",
    "transfer@harbour",
    "distill@harbour",
    "prune@harbour",
)
SHORT = (
    "embed.encoder=hashing",
    "pretrain.epochs=1",
    "transfer.epochs=1",
    "distill.epochs=1",
    "prune.recovery_epochs=1",
)
FILE_OF_THE_SNAPSHOT = """
    select f.md5 from outputs o join entries e on e.tree = o.tree join files f on f.id = e.file
    join paths p on p.id = e.path where o.path = 'data/snapshot' and p.path = %s
"""
SERVED = """
    select a.sha256, t.md5 from attempts a join outputs o on o.attempt = a.id join trees t on t.id = o.tree
    where o.path = 'models/served/harbour'
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of one target up to the served model, registered by name only; its record is kept, its workspace gone."""
    root = tmp_path_factory.mktemp("trained")
    clone, settings = root / "clone", Settings(home=root / "home")
    subprocess.run(["git", "clone", "--quiet", CHECKOUT, clone], check=True)
    request = RunRequest(RUN, datetime(2026, 1, 1, tzinfo=UTC), "world:tiny", ("harbour",), SHORT)
    with running_postgres(tmp_path_factory.mktemp("postgres")), pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.runs.reproduce._track", lambda workspace, manifest: None)  # there is no MLflow here
        workspace = open_workspace(settings, request, clone)
        for stage in STAGES:
            assert reproduce_stage(workspace, stage, settings.home) == 0
        manifests = read_manifests(workspace)
        served = manifests["prune@harbour"]
        registered = {
            **served, "stage": "register@harbour", "outputs": {}, "ended": "2030-01-01T00:00:00.000Z",
            "inputs": {"models/served/harbour": served["outputs"]["models/served/harbour"]},
            "parents": {"models/served/harbour": served["sha256"]}, "source": "executed", "came_from": None,
            "model": {"name": "rec-harbour", "version": 1, "verdict": "hold", "reasons": []},
        }  # fmt: skip
        put(settings.home, {key: value for key, value in registered.items() if key != "sha256"})
        _keep_record(settings, workspace, RUN, [])
        shutil.rmtree(workspace)
        with connected() as connection:
            empty(connection)
        assert rebuild(settings.home).left_out == ()
        yield clone, settings


def test_training_it_again_gives_the_same_weights(trained, tmp_path):
    clone, settings = trained
    with connected() as connection:
        made = set_up(connection, settings, "rec-harbour/1", tmp_path / "again", clone)
    assert made.stages == STAGES[1:]
    compared = {one.path: one for one in run_again(made)}
    assert "models/served/harbour" in compared
    assert [one.path for one in compared.values() if not one.same] == []
    attempts = made.workspace / "run" / "attempts"
    assert {folder.name for folder in attempts.iterdir()} == set(STAGES[1:])  # executed, not restored


def test_a_deleted_record_changes_nothing(trained, tmp_path):
    clone, settings = trained
    record = record_folder(settings.home, RUN)
    record.rename(tmp_path / "record")
    try:
        with connected() as connection:
            made = set_up(connection, settings, "rec-harbour/1", tmp_path / "again", clone)
        status = subprocess.run(
            ["dvc", "status", *made.stages], cwd=made.workspace, capture_output=True, text=True, check=True,
            env=os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        )  # fmt: skip
        assert "up to date" in status.stdout
    finally:
        (tmp_path / "record").rename(record)


def test_what_cannot_be_made_again_is_said(trained, tmp_path):
    clone, settings = trained
    with connected() as connection:
        with pytest.raises(BadConfiguration, match="exists; give another folder with --into"):
            set_up(connection, settings, "rec-harbour/1", tmp_path, clone)
        row = connection.execute(FILE_OF_THE_SNAPSHOT, ("harbour/items.parquet",)).fetchone()
        gone = object_path(settings.home / "dvc" / "cache", row[0])
        gone.rename(tmp_path / "object")
        try:
            with pytest.raises(DataBrokeContract, match=r"data/snapshot/harbour/items\.parquet"):
                set_up(connection, settings, "rec-harbour/1", tmp_path / "again", clone)
            assert not (tmp_path / "again").exists()
            found = verify(connection, settings, "rec-harbour/1")
            assert found.altered == ()
            assert any("data/snapshot/harbour/items.parquet" in finding.name for finding in found.missing)
        finally:
            (tmp_path / "object").rename(gone)


def test_verify_names_what_was_altered(trained, tmp_path):
    _, settings = trained
    with connected() as connection:
        whole = verify(connection, settings, RUN)
        assert (whole.altered, whole.missing) == ((), ())
        assert whole.manifests == len(STAGES) + 1
        assert whole.contents > 50
        assert whole.record_files > 3
        sha, md5 = connection.execute(SERVED).fetchone()
        report = record_folder(settings.home, RUN) / "reports" / "validation" / "index.html"
        for path in (path_of(settings.home, sha), object_path(settings.home / "dvc" / "cache", md5), report):
            before, mode = path.read_bytes(), path.stat().st_mode
            path.chmod(0o644)
            path.write_bytes(before[:-1] + b"?")
            found = verify(connection, settings, RUN)
            path.write_bytes(before)
            path.chmod(mode)
            assert len(found.altered) == 1
            assert str(path) in str(found.altered)


def test_an_index_that_says_something_else_is_found(trained):
    _, settings = trained
    with connected() as connection:
        connection.execute(
            "update attempts set facts = jsonb_set(facts, '{message}', '\"better\"') where stage = 'embed'"
        )
        found = verify(connection, settings, RUN)
        connection.rollback()
    assert [finding.kind for finding in found.altered] == ["index"]
    assert "lineage rebuild" in found.altered[0].problem
