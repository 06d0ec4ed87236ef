"""The migrations make the tables that schema.py describes, once, however many processes ask at the same time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from pipeline.exit_codes import PassingFault
from pipeline.lineage.database import HEAD, connected, index_url
from pipeline.lineage.schema import MIGRATIONS, metadata, upgrade
from tests.postgres_fixture import running_postgres


@pytest.fixture(scope="module")
def postgres(tmp_path_factory):
    with running_postgres(tmp_path_factory.mktemp("postgres")):
        yield index_url()


def test_four_at_once_make_one_schema(postgres):
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(upgrade, [postgres] * 4))
    with psycopg.connect(postgres) as connection:
        assert connection.execute("select version_num from alembic_version").fetchall() == [(HEAD,)]


def test_an_older_release_goes_on_with_a_newer_schema(postgres):
    with connected(postgres) as connection:
        connection.execute("update alembic_version set version_num = '9999'")
    with connected(postgres) as connection:
        assert connection.execute("select version_num from alembic_version").fetchone() == ("9999",)
        connection.execute("update alembic_version set version_num = %s", (HEAD,))


def test_the_migrations_make_what_the_tables_say(postgres):
    from alembic.autogenerate import compare_metadata
    from alembic.runtime.migration import MigrationContext
    from sqlalchemy import create_engine

    upgrade(postgres)
    engine = create_engine(postgres.replace("postgresql://", "postgresql+psycopg://"))
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_the_head_that_questions_look_for_is_the_newest_revision():
    from alembic.script import ScriptDirectory

    assert ScriptDirectory(str(MIGRATIONS)).get_current_head() == HEAD


@pytest.mark.parametrize(
    "change", ["update promotions set reason = 'x'", "delete from promotions", "truncate promotions"]
)
def test_the_promotion_log_is_append_only(postgres, change):
    upgrade(postgres)
    with psycopg.connect(postgres) as connection:
        connection.execute(
            "insert into promotions (target, decided_at, actor, action, reason, to_version, previous_sha256, sha256)"
            " values ('t', now(), 'user x', 'promote', 'y', 1, %s, 'b')", (change,),
        )  # fmt: skip
        with pytest.raises(psycopg.errors.RaiseException, match="append-only"):
            connection.execute(change)


def test_without_a_server_it_is_a_passing_fault_that_says_what_to_do(tmp_path):
    with (
        pytest.raises(PassingFault, match="`warmstart up` starts it"),
        connected(f"postgresql://postgres:@/warmstart?host={tmp_path}"),
    ):
        pass
