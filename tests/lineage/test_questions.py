"""The questions against a walk over dicts, on random histories with cache hits, retries, failures and backfills."""

from __future__ import annotations

import itertools
import random
from datetime import timedelta

import psycopg
import pytest

from pipeline.exit_codes import BadConfiguration
from pipeline.lineage.database import connected, index_url
from pipeline.lineage.diff import differences
from pipeline.lineage.file import file_lineage
from pipeline.lineage.index import close_ancestry, load
from pipeline.lineage.model import model_lineage
from pipeline.lineage.rebuild import empty
from pipeline.lineage.row import row_lineage
from pipeline.lineage.source import source_lineage
from pipeline.settings import Settings
from tests.lineage.oracle import Oracle
from tests.lineage.world import START, History, md5, random_history, user
from tests.postgres_fixture import running_postgres

SEEDS = range(8)


@pytest.fixture(scope="module")
def postgres(tmp_path_factory):
    with running_postgres(tmp_path_factory.mktemp("postgres")):
        yield index_url()


@pytest.fixture
def connection(postgres):
    """In a transaction that is rolled back."""
    with connected(postgres):
        pass
    with psycopg.connect(postgres) as connection:
        yield connection
        connection.rollback()


def fill(connection, history, manifests, seed=0):
    """In parts and in any order, as closing runs would."""
    empty(connection)
    shuffled = random.Random(seed).sample(manifests, len(manifests))
    while shuffled:
        part, shuffled = shuffled[:17], shuffled[17:]
        close_ancestry(connection, load(connection, part, history.users.get)[1])


def keys(touched):
    return {(version.name, version.version) for version in touched.versions}


@pytest.mark.parametrize("seed", SEEDS)
def test_model_goes_up_to_the_raw_files(connection, seed, tmp_path):
    history, manifests = random_history(seed)
    fill(connection, history, manifests, seed)
    oracle = Oracle(manifests)
    for name, version in oracle.registered:
        answer = model_lineage(connection, f"{name}/{version}", tmp_path)
        wanted = oracle.model((name, version))
        assert {step.stage: step.sha256 for step in answer.steps} == wanted["steps"]
        assert {step.stage: step.made_by for step in answer.steps} == wanted["made_by"]
        assert {f.path.removeprefix("data/snapshot/"): (f.md5, f.rows) for f in answer.files} == wanted["files"]
        assert not answer.unresolved
        order = [step.stage for step in answer.steps]
        assert all(order.index(p) < order.index(step.stage) for step in answer.steps for p in step.parents)


@pytest.mark.parametrize("seed", SEEDS)
def test_file_goes_down_to_every_table_and_version(connection, seed):
    history, manifests = random_history(seed)
    fill(connection, history, manifests, seed)
    oracle = Oracle(manifests)
    for digest in random.Random(seed).sample(sorted(oracle.holding), 25):
        versions, tables, failed = oracle.below(oracle.holders({digest}))
        answer = file_lineage(connection, digest)
        assert keys(answer.touched) == versions
        assert {table.path: table.runs for table in answer.touched.tables} == tables
        assert answer.touched.failed == failed


def test_a_path_means_every_content_that_stood_there_unless_a_run_is_named(connection):
    history, manifests = random_history(3)
    fill(connection, history, manifests)
    path = "data/snapshot/harbour/items.parquet"
    stood = {f["md5"] for m in manifests for f in m["outputs"].get("data/snapshot", {"files": ()})["files"]
             if f["path"] == "harbour/items.parquet"}  # fmt: skip
    assert {content.md5 for content in file_lineage(connection, path).contents} == stood
    run = next(m["run_id"] for m in manifests if m["stage"] == "snapshot" and m["outputs"])
    narrowed = file_lineage(connection, path, run)
    assert {v.run_id for v in narrowed.touched.versions} <= {run}
    assert narrowed.touched.runs == 1


def test_a_whole_output_can_be_asked_for(connection):
    history, manifests = random_history(3)
    fill(connection, history, manifests)
    written = [m for m in manifests if "models/served/harbour" in m["outputs"]]
    answer = file_lineage(connection, "models/served/harbour")
    trees = {m["outputs"]["models/served/harbour"]["md5"] for m in written}
    assert {content.md5 for content in answer.contents} == trees
    assert [(p.path, p.contents) for p in answer.places] == [("models/served/harbour", len(trees))]
    assert keys(answer.touched) == Oracle(manifests).below(m["sha256"] for m in written)[0]


def test_a_file_on_the_disk_is_known_by_its_content(connection, tmp_path):
    import hashlib

    (tmp_path / "any name").write_bytes(b"rows")
    history = History(random.Random(0))
    manifests = history.run(40)
    manifests[0]["outputs"]["data/snapshot"]["files"][0]["md5"] = hashlib.md5(b"rows").hexdigest()
    fill(connection, history, manifests)
    answer = file_lineage(connection, str(tmp_path / "any name"))
    assert [p.path for p in answer.places] == [
        f"data/{at}/harbour/interactions/0000.parquet" for at in ("snapshot", "valid")
    ]
    assert keys(answer.touched) == {("rec-harbour", 1), ("rec-orchard", 1)}
    with pytest.raises(BadConfiguration, match="a raw file is asked for by the source"):
        (tmp_path / "other").write_bytes(b"nobody's")
        file_lineage(connection, str(tmp_path / "other"))


@pytest.mark.parametrize("seed", SEEDS)
def test_row_finds_the_files_and_the_models_that_saw_them(connection, seed, tmp_path):
    history, manifests = random_history(seed)
    fill(connection, history, manifests, seed)
    oracle = Oracle(manifests)
    for domain, month, number in itertools.product(("harbour", "plaza"), (0, 1, 2), (0, 5, 70)):
        somebody = user(domain, month, number)
        wanted = {digest for digest, users in history.users.items() if somebody in users}
        answer = row_lineage(connection, Settings(home=tmp_path), domain, somebody)
        assert {one.md5 for one in answer.held} == {d for d in wanted if oracle.holders({d}, "data/snapshot")}
        aside = {d for d in wanted if oracle.holders({d}, "data/quarantine")}
        assert {one.md5 for one in answer.quarantined} == {d for d in aside if domain == "harbour"}
        assert keys(answer.touched) == oracle.below(oracle.holders(wanted, "data/snapshot"))[0]


@pytest.mark.parametrize("seed", SEEDS)
def test_source_by_the_time_of_its_events(connection, seed):
    history, manifests = random_history(seed)
    fill(connection, history, manifests, seed)
    since, until = START + timedelta(days=20), START + timedelta(days=29)
    wanted = {
        f["md5"] for m in manifests for f in m["outputs"].get("data/snapshot", {"files": ()})["files"]
        if f["path"].startswith("plaza/interactions/0000") and f["to"] >= since.isoformat().replace("+00:00", "Z")
    }  # fmt: skip
    oracle = Oracle(manifests)
    answer = source_lineage(connection, "plaza/interactions", since, until)
    assert keys(answer.touched) == oracle.below(oracle.holders(wanted, "data/snapshot"))[0]
    assert source_lineage(connection, "plaza").undated == ("data/snapshot/plaza/items.parquet",)


@pytest.mark.parametrize("seed", SEEDS)
def test_diff_says_what_differs_and_nothing_else(connection, seed, tmp_path):
    history, manifests = random_history(seed)
    fill(connection, history, manifests, seed)
    oracle = Oracle(manifests)
    every = sorted(key for key in oracle.registered if key[0] == "rec-harbour")
    for one, two in itertools.pairwise(every):
        answer = differences(connection, str(one[1]), f"{two[0]}/{two[1]}", tmp_path)
        sides = [oracle.model(key) for key in (one, two)]
        rows = [sum(count or 0 for _, count in side["files"].values()) for side in sides]
        assert {partition.path for partition in answer.partitions} == oracle.partitions(one, two)
        assert (answer.rows.before, answer.rows.after) == tuple(rows)
        commits = [oracle.registered[key]["code"]["commit"] for key in (one, two)]
        assert bool(answer.code) == (commits[0] != commits[1])
        trained = [oracle.by_sha[side["steps"]["pretrain"]]["parameters"]["pretrain"] for side in sides]
        assert [c.name for c in answer.parameters] == ["pretrain.learning_rate"] * (trained[0] != trained[1])
    assert differences(connection, "latest", "latest", tmp_path).partitions == ()


def test_the_intervals_in_which_a_version_was_champion(connection, tmp_path):
    history = History(random.Random(0))
    fill(connection, history, [m for night in (40, 41, 42) for m in history.run(night)])
    for day, version in enumerate((1, 2, 1)):
        connection.execute(
            "insert into promotions (target, decided_at, actor, action, reason, to_version, previous_sha256, sha256) "
            "values ('harbour', %s, 'user ada', 'promote', 'because', %s, %s, %s)",
            (START + timedelta(days=day), version, str(day), str(day + 1)),
        )
    served = model_lineage(connection, "rec-harbour@champion", tmp_path).version
    assert served.version == 1
    assert [(i.since, i.until) for i in served.champion] == [
        (START, START + timedelta(days=1)), (START + timedelta(days=2), None)]  # fmt: skip
    touched = file_lineage(connection, md5("plaza", 1, 10, 0)).touched  # as it was on night 40
    assert {str(v): len(v.champion) for v in touched.versions} == {"rec-harbour/1": 2, "rec-orchard/1": 0}


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("rec-harbor@champion", r"there is no model 'rec-harbor'; did you mean rec-harbour"),
        ("rec-harbour@champion", "rec-harbour has no champion yet"),
        ("rec-harbour/9", "rec-harbour has no version 9; the nearest are 1"),
        ("rec-harbour", r"did you mean rec-harbour@champion or rec-orchard@champion\?"),
        ("manual__2024-02-10T00:00:00.000Z_2", "did you mean manual__2024-02-10T00:00:00.000Z_1"),
        ("1", "1 could be rec-harbour/1 or rec-orchard/1"),
        ("latest", "latest could be rec-harbour/1 or rec-orchard/1"),
    ],
)
def test_a_wrong_name_gets_the_right_one(connection, tmp_path, name, sentence):
    history = History(random.Random(0))
    fill(connection, history, history.run(40))
    with pytest.raises(BadConfiguration, match=sentence):
        model_lineage(connection, name, tmp_path)


def test_an_unknown_path_source_or_domain_gets_the_right_one(connection, tmp_path):
    history = History(random.Random(0))
    fill(connection, history, history.run(40))
    with pytest.raises(BadConfiguration, match=r"did you mean data/snapshot/plaza/items\.parquet"):
        file_lineage(connection, "data/snapshot/plaza/item.parquet")
    with pytest.raises(BadConfiguration, match="did you mean plaza/interactions"):
        source_lineage(connection, "plaza/interaction")
    with pytest.raises(BadConfiguration, match="did you mean harbour "):
        source_lineage(connection, "harbor")
    with pytest.raises(BadConfiguration, match=r"did you mean data/snapshot/plaza/items\.parquet or data/valid/plaza/"):
        file_lineage(connection, "plaza/items.parquet")
    with pytest.raises(BadConfiguration, match="did you mean plaza"):
        row_lineage(connection, Settings(home=tmp_path), "plazza", "x")


def test_a_question_that_can_have_no_answer_is_refused(connection, tmp_path):
    history = History(random.Random(0))
    fill(connection, history, history.run(40))
    with pytest.raises(BadConfiguration, match="--from 2024-01-03T00:00:00Z is not before --to 2024-01-02T00:00:00Z"):
        source_lineage(connection, "plaza", START + timedelta(days=2), START + timedelta(days=1))
    for words, option in ((("",), "--user"), (("x", ""), "--item")):
        with pytest.raises(BadConfiguration, match=f"{option} is empty"):
            row_lineage(connection, Settings(home=tmp_path), "plaza", *words)
