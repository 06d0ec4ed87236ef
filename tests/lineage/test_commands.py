"""`warmstart lineage …` as a person uses it: on one screen, as JSON, without a database, down to one row."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from pipeline.data.file_md5 import file_md5
from pipeline.exit_codes import BAD_CONFIGURATION, DATA_BROKE_CONTRACT, PASSING_FAULT
from pipeline.lineage import row_files
from pipeline.lineage.cache import object_path
from pipeline.lineage.commands import app
from pipeline.lineage.database import connected
from pipeline.lineage.rebuild import empty
from pipeline.runs.manifest_store import digest_of, put, users_path
from pipeline.settings import settings
from tests.lineage.world import History, user
from tests.postgres_fixture import running_postgres

SCREEN = 55  # lines
WARMSTART = Path(sys.executable).with_name("warmstart")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A home with three nights of manifests; the index is filled by `rebuild`."""
    home = tmp_path_factory.mktemp("home")
    history = History(random.Random(0))
    with running_postgres(tmp_path_factory.mktemp("postgres")), pytest.MonkeyPatch.context() as patch:
        patch.setenv("WARMSTART_HOME", str(home))
        settings.cache_clear()
        for manifest in (m for night in (40, 41, 42) for m in history.run(night, commit=night)):
            put(home, manifest)
        for digest, users in history.users.items():
            users_path(home, digest).parent.mkdir(exist_ok=True)
            pq.write_table(pa.table({"user_id": users}), users_path(home, digest))
        yield home


def ask(*words: str) -> str:
    done = CliRunner().invoke(app, list(words), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_every_answer_fits_a_screen_and_is_json_too(home):
    assert "manifests are in the index" in ask("rebuild")
    path = "data/snapshot/plaza/interactions/0001.parquet"
    for words in (
        ("model", "rec-harbour/2"),
        ("file", path),
        ("source", "plaza", "--from", "2024-02-01", "--to", "2024-02-10"),
        ("row", "--domain", "plaza", "--user", user("plaza", 1, 2)),
        ("row", "--domain", "harbour", "--user", "somebody"),
        ("diff", "1", "3"),
    ):
        said = ask(*words)
        assert len(said.splitlines()) <= SCREEN, said
        assert all(len(line) <= 120 for line in said.splitlines())
        assert json.loads(ask(*words, "--json"))
    assert "warmstart lineage reproduce rec-harbour/2" in ask("model", "rec-harbour/2")
    assert isinstance(json.loads(ask("model", "latest", "--json")), list)
    assert "~ plaza/interactions/0001.parquet" in ask("diff", "1", "3")


def test_rebuild_ends_with_65_when_a_manifest_is_altered(home):
    bad = home / "manifests" / "00" / f"{'0' * 64}.json"
    bad.parent.mkdir(exist_ok=True)
    bad.write_text("{}")
    done = CliRunner().invoke(app, ["rebuild"])
    bad.unlink()
    assert done.exit_code == DATA_BROKE_CONTRACT
    assert str(bad) in done.output


@pytest.fixture
def own_home(home, tmp_path, monkeypatch):
    """An empty home beside the module's server."""
    monkeypatch.setenv("WARMSTART_HOME", str(tmp_path / "home"))
    settings.cache_clear()
    with connected() as connection:
        empty(connection)
    yield tmp_path / "home"
    monkeypatch.undo()
    settings.cache_clear()
    CliRunner().invoke(app, ["rebuild"])  # what the other tests ask about


def test_an_item_narrows_to_the_rows_and_what_is_gone_is_said(own_home, tmp_path):
    """Night 1: the row is quarantined. Night 2: it is not. Night 3: nobody can tell, the file is gone."""
    somebody, history = user("harbour", 1, 0), History(random.Random(1))
    for night in (40, 41, 42):
        contents = {}
        for output in ("data/snapshot", "data/quarantine"):
            with_rule = output == "data/quarantine"
            items = ["other" if with_rule and night == 41 else "this", "another"]
            table = pa.table({"user_id": [somebody] * 2, "item_id": items, "timestamp": [night] * 2})
            made = tmp_path / "made.parquet"
            pq.write_table(table.append_column("rule", pa.array(["known items"] * 2)) if with_rule else table, made)
            digest = contents[output] = file_md5(made)
            if not (night == 42 and output == "data/snapshot"):
                place = object_path(own_home / "dvc" / "cache", digest)
                place.parent.mkdir(parents=True, exist_ok=True)
                made.rename(place)
            users_path(own_home, digest).parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(pa.table({"user_id": [somebody]}), users_path(own_home, digest))
        _put_with(own_home, history.run(night), contents, night)
    ask("rebuild")
    question = ("row", "--domain", "harbour", "--user", somebody, "--item", "this")
    found = json.loads(ask(*question, "--json"))
    mine = [one for one in found["held"] if one["rows"] == 2]
    assert [one["matching"] for one in mine] == [1, 1, None]
    assert [(one["matching"], one["rules"]) for one in found["quarantined"]] == [
        (1, {"known items": 1}), (1, {"known items": 1})]  # fmt: skip
    assert found["not_in_cache"] == [mine[-1]["md5"]]
    nights = sorted({v["as_of"][:10] for v in found["touched"]["versions"]})
    assert nights == ["2024-02-11", "2024-02-12"]  # not the first one: all of it was quarantined
    assert "not in the cache" in ask(*question)

    with pytest.MonkeyPatch.context() as patch:  # only the newest is opened; the others count as holding it
        patch.setattr(row_files, "FILES", 1)
        first = json.loads(ask(*question, "--json"))
        assert found["not_opened"] == []
        assert {one["md5"] for one in mine[:2]} < set(first["not_opened"])
        assert sorted({v["as_of"][:10] for v in first["touched"]["versions"]}) == ["2024-02-10", *nights]
        assert f"{len(first['not_opened'])} files" in ask(*question)
        assert json.loads(ask(*question, "--every-file", "--json")) == found


def _put_with(home, manifests, contents, night):
    """Keep manifests whose snapshot and quarantine have one file of interactions, with these contents."""
    renamed = {}
    for manifest in manifests:
        for path, out in manifest["outputs"].items():
            if path in contents:
                file = {"path": "harbour/interactions/0001.parquet", "md5": contents[path], "bytes": 9, "rows": 2}
                manifest["outputs"][path] = {**out, "md5": f"{contents[path]}.dir", "files": [file]}
        manifest["parents"] = {path: renamed[sha] for path, sha in manifest["parents"].items()}
        before = manifest["sha256"]
        manifest["sha256"] = renamed[before] = digest_of(manifest)
        put(home, manifest)


def test_without_a_database_it_is_75_and_a_sentence(tmp_path):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("WARMSTART")}
    environment |= {"WARMSTART_HOME": str(tmp_path)}
    words = [WARMSTART, "lineage", "model", "rec-harbour@champion"]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == PASSING_FAULT
    assert "`warmstart up` starts it" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_wrong_name_is_78_and_no_traceback(home):
    done = subprocess.run([WARMSTART, "lineage", "model", "rec-harbor/1"], capture_output=True, text=True, check=False)
    assert done.returncode == BAD_CONFIGURATION
    assert "did you mean rec-harbour" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_question_loads_no_machine_learning_and_no_migrations(home):
    code = (
        "import sys; from typer.testing import CliRunner; from pipeline.cli import app;"
        "done = CliRunner().invoke(app, ['lineage', 'diff', '1', '3', '--json']); assert not done.exit_code;"
        "print(sorted({m.split('.')[0] for m in sys.modules} & set(sys.argv[1].split())))"
    )
    heavy = "torch mlflow feast pandas polars duckdb dvc sqlalchemy alembic great_expectations pyarrow numpy"
    done = subprocess.run([sys.executable, "-c", code, heavy], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
