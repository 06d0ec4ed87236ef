"""A real run's model is made again, byte for byte, in a workspace that has only its manifests and the cache."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.exit_codes import BadConfiguration, DataBrokeContract
from pipeline.lineage.cache import object_path, stores
from pipeline.lineage.database import connected
from pipeline.lineage.reproduce import run_again, set_up
from pipeline.lineage.verify import verify
from pipeline.runs.manifest_store import path_of
from tests.e2e.conftest import Ended

ABOVE = ("validate", "features", "embed", "pretrain")
STAGES = (*ABOVE, *(f"{name}@harbour" for name in ("augment", "transfer", "distill", "prune")))
FILE_OF_THE_SNAPSHOT = """
    select f.md5 from outputs o join entries e on e.tree = o.tree join files f on f.id = e.file
    join paths p on p.id = e.path where o.path = 'data/snapshot' and p.path = %s
"""
SERVED = """
    select a.sha256, t.md5 from attempts a join outputs o on o.attempt = a.id join trees t on t.id = o.tree
    join runs r on r.id = a.run where o.path = 'models/served/harbour' and r.run_id = %s
"""


@pytest.fixture(scope="module")
def version(first: Ended) -> str:
    """The served model that the first run registered for harbour."""
    receipt = json.loads((first.record / "receipts/register/harbour/receipt.json").read_text())
    return f"rec-harbour/{receipt['version']}"


def test_training_it_again_gives_the_same_weights(first, version, tmp_path):
    with connected() as connection:
        made = set_up(connection, first.settings, version, tmp_path / "again")
    assert made.stages == STAGES
    compared = {one.path: one for one in run_again(made)}
    assert "models/served/harbour" in compared
    assert [one.path for one in compared.values() if not one.same] == []
    attempts = made.workspace / "run" / "attempts"
    assert {folder.name for folder in attempts.iterdir()} == set(STAGES)  # executed, not restored


def test_a_deleted_record_changes_nothing(first, version, tmp_path):
    first.record.rename(tmp_path / "record")
    try:
        with connected() as connection:
            made = set_up(connection, first.settings, version, tmp_path / "again")
        status = subprocess.run(
            ["dvc", "status", *made.stages], cwd=made.workspace, capture_output=True, text=True, check=True,
            env=os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        )  # fmt: skip
        assert "up to date" in status.stdout
    finally:
        (tmp_path / "record").rename(first.record)


def test_what_cannot_be_made_again_is_said_and_the_remote_stands_in(first, version, tmp_path):
    settings = first.settings
    with connected() as connection:
        with pytest.raises(BadConfiguration, match="exists; give another folder with --into"):
            set_up(connection, settings, version, tmp_path)
        row = connection.execute(FILE_OF_THE_SNAPSHOT, ("harbour/items.parquet",)).fetchone()
        cached, pushed = (object_path(store, row[0]) for store in stores(settings))
        cached.rename(tmp_path / "cached")
        pushed.rename(tmp_path / "pushed")
        try:
            with pytest.raises(DataBrokeContract, match=r"data/snapshot/harbour/items\.parquet"):
                set_up(connection, settings, version, tmp_path / "again")
            assert not (tmp_path / "again").exists()
            found = verify(connection, settings, version)
            assert found.altered == ()
            assert any("data/snapshot/harbour/items.parquet" in finding.name for finding in found.missing)
        finally:
            (tmp_path / "pushed").rename(pushed)
        set_up(connection, settings, version, tmp_path / "again")
        assert cached.read_bytes() == (tmp_path / "cached").read_bytes()


def test_verify_names_what_was_altered(first):
    settings, run_id = first.settings, first.run_id
    with connected() as connection:
        whole = verify(connection, settings, run_id)
        assert (whole.altered, whole.missing) == ((), ())
        assert whole.manifests == len(first.manifests)
        assert whole.contents > 50
        assert whole.record_files > 3
        sha, md5 = connection.execute(SERVED, (run_id,)).fetchone()
        report = first.record / "reports" / "validation" / "index.html"
        for path in (path_of(settings.home, sha), object_path(settings.home / "dvc" / "cache", md5), report):
            before, mode = path.read_bytes(), path.stat().st_mode
            path.chmod(0o644)
            path.write_bytes(before[:-1] + b"?")
            found = verify(connection, settings, run_id)
            path.write_bytes(before)
            path.chmod(mode)
            assert len(found.altered) == 1
            assert str(path) in str(found.altered)


def test_an_index_that_says_something_else_is_found(first):
    with connected() as connection:
        connection.execute(
            "update attempts set facts = jsonb_set(facts, '{message}', '\"better\"') "
            "where stage = 'embed' and run = (select id from runs where run_id = %s)",
            (first.run_id,),
        )
        found = verify(connection, first.settings, first.run_id)
        connection.rollback()
    assert [finding.kind for finding in found.altered] == ["index"]
    assert "lineage rebuild" in found.altered[0].problem
