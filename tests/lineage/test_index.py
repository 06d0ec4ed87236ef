"""The index is a function of the manifests: ingested night by night, twice, at once, or rebuilt, it is the same."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.lineage.database import connected, index_url
from pipeline.lineage.index import ingest, user_key
from pipeline.lineage.rebuild import DERIVED, empty, rebuild
from pipeline.runs.manifest_store import path_of, put, users_path
from tests.lineage.world import random_history
from tests.postgres_fixture import running_postgres

# every table with the numbers of rows replaced by what they stand for
CONTENT = {
    "attempts": "select a.sha256, r.run_id, r.as_of, r.commit, a.stage, a.source, a.came_from, a.facts::text"
    " from attempts a join runs r on r.id = a.run",
    "inputs": "select a.sha256, i.path, i.md5, i.parent from inputs i join attempts a on a.id = i.attempt",
    "outputs": "select a.sha256, o.path, t.md5, t.bytes, t.files, t.rows from outputs o"
    " join attempts a on a.id = o.attempt join trees t on t.id = o.tree",
    "entries": "select t.md5, p.path, f.md5, f.rows, f.first, f.last, f.columns::text from entries e"
    " join trees t on t.id = e.tree join paths p on p.id = e.path join files f on f.id = e.file",
    "file_users": "select f.md5, u.users::text from file_users u join files f on f.id = u.file",
    "sources": "select a.sha256, s.name, s.place, s.md5, s.rows from sources s join attempts a on a.id = s.attempt",
    "versions": "select v.name, v.version, a.sha256, v.verdict from versions v join attempts a on a.id = v.attempt",
    "descent": "select a.sha256, r.run_id,"
    " (select array_agg(f.sha256 order by f.sha256) from attempts f where f.id = any(d.failed)),"
    " (select array_agg(v.sha256 order by v.sha256) from attempts v where v.id = any(d.registered)),"
    " (select array_agg(p.path || t.md5 order by p.path, t.md5) from unnest(d.paths, d.trees) as w(path, tree)"
    "  join paths p on p.id = w.path join trees t on t.id = w.tree)"
    " from descent d join attempts a on a.id = d.attempt join runs r on r.id = d.run",
    "ancestry": "select a.sha256, b.sha256 from ancestry y"
    " join attempts a on a.id = y.attempt join attempts b on b.id = y.ancestor",
}


@pytest.fixture(scope="module")
def postgres(tmp_path_factory):
    with running_postgres(tmp_path_factory.mktemp("postgres")):
        yield index_url()


@pytest.fixture
def kept(postgres, tmp_path):
    """A home with a history in its store, and an empty index."""
    history, manifests = random_history(5, runs=6)
    for manifest in manifests:
        put(tmp_path, manifest)
    for digest, users in history.users.items():
        path = users_path(tmp_path, digest)
        path.parent.mkdir(exist_ok=True)
        pq.write_table(pa.table({"user_id": sorted(users)}), path)
    with connected(postgres) as connection:
        empty(connection)
    return tmp_path, manifests


def content(url: str) -> dict[str, list[str]]:
    with psycopg.connect(url) as connection:
        return {name: sorted(map(repr, connection.execute(query).fetchall())) for name, query in CONTENT.items()}


def test_rebuilt_is_what_was_ingested(postgres, kept):
    home, manifests = kept
    for manifest in manifests:
        ingest(manifest, home, postgres)
    ingested = content(postgres)
    assert all(ingested.values())
    done = rebuild(home, postgres)
    assert (done.manifests, done.left_out) == (len(manifests), ())
    assert content(postgres) == ingested


def test_an_index_of_the_release_before_is_filled_by_the_migration(postgres, kept):
    home, _ = kept
    rebuild(home, postgres)
    before = content(postgres)
    with connected(postgres) as connection:
        connection.execute("delete from descent")
        connection.execute("delete from paths where path in (select path from outputs)")
        connection.execute(import_module("pipeline.lineage.migrations.versions.0003_descent").FILL)
    assert content(postgres) == before


def test_ingested_again_and_at_once_nothing_changes(postgres, kept):
    home, manifests = kept
    rebuild(home, postgres)
    before = content(postgres)
    with connected(postgres) as connection:
        empty(connection)
    with ThreadPoolExecutor(4) as pool:  # each manifest four times, in four orders
        orders = [manifests, manifests[::-1], manifests[1::2] + manifests[::2], manifests[::2] + manifests[1::2]]
        list(pool.map(lambda order: [ingest(manifest, home, postgres) for manifest in order], orders))
    assert content(postgres) == before


def test_what_is_altered_or_of_another_format_is_named_and_left_out(postgres, kept):
    home, manifests = kept
    altered = path_of(home, manifests[0]["sha256"])
    altered.chmod(0o644)
    altered.write_text(altered.read_text().replace("manual", "manuel"))
    torn = path_of(home, manifests[1]["sha256"])
    torn.chmod(0o644)
    torn.write_text(torn.read_text()[:-5])
    old = put(home, {"format": 0, "stage": "snapshot"})
    done = rebuild(home, postgres)
    assert done.manifests == len(manifests) - 2
    assert len(done.left_out) == 3
    for path, what in ((altered, "altered"), (torn, "no JSON any more"), (path_of(home, old), "is of format 0")):
        assert any(str(path) in sentence and what in sentence for sentence in done.left_out)


def test_the_promotion_log_survives_a_rebuild(postgres, kept):
    home, _ = kept
    assert "promotions" not in DERIVED
    with psycopg.connect(postgres) as connection:
        connection.execute(
            "insert into promotions (target, decided_at, actor, action, reason, to_version, previous_sha256, sha256) "
            "values ('harbour', now(), 'user ada', 'promote', 'because', 1, '0', '1')"
        )
    rebuild(home, postgres)
    with psycopg.connect(postgres) as connection:
        assert connection.execute("select count(*) from promotions").fetchone() == (1,)


def test_a_folder_is_listed_by_the_first_manifest_that_can(postgres, kept):
    home, manifests = kept
    whole = next(m for m in manifests if m["outputs"])
    bare = json.loads(json.dumps(whole))
    for out in bare["outputs"].values():
        out["files"] = []
    bare["sha256"] = "0" * 64
    ingest(bare, home, postgres)
    assert content(postgres)["entries"] == []
    ingest(whole, home, postgres)
    assert len(content(postgres)["entries"]) == sum(len(out["files"]) for out in whole["outputs"].values())


@pytest.mark.parametrize("pseudonym", ["0" * 16, "f" * 16, "", "ab" * 32, "not hex at all!!"])
def test_every_pseudonym_is_a_number_of_64_bits(pseudonym):
    assert -(2**63) <= user_key(pseudonym) < 2**63
