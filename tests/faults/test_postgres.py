"""The embedded PostgreSQL on its own: homes that are hard to live in, and beginnings that were cut short."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import psycopg
import pytest

from pipeline.settings import SOCKET_PATH_LIMIT, Settings
from pipeline.stack.health import postgres_problem
from pipeline.stack.home import prepare_home, remove_socket_dir
from pipeline.stack.postgres import BINARIES, server_user
from pipeline.stack.services import postgres
from pipeline.stack.unprivileged import allow_passage, become, passing_capability

pytestmark = pytest.mark.timeout(120)


@contextmanager
def server(settings: Settings) -> Iterator[subprocess.Popen[bytes]]:
    """PostgreSQL as supervisord runs it: a child in the foreground."""
    prepare_home(settings)
    with subprocess.Popen(postgres(settings).command, stderr=subprocess.PIPE) as process:
        while postgres_problem(settings) is not None and process.poll() is None:
            time.sleep(0.05)
        yield process
        process.send_signal(signal.SIGINT)


def answer(settings: Settings) -> int:
    with psycopg.connect(settings.postgres_url("postgres")) as connection:
        row = connection.execute("select 42").fetchone()
    assert row is not None
    return int(row[0])


def test_it_is_the_child_itself_that_serves(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")
    with server(settings) as process:
        assert answer(settings) == 42
        assert int((settings.postgres_dir / "postmaster.pid").read_text().split()[0]) == process.pid
    assert process.returncode == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs it as another user, who must get to the folders")
def test_a_folder_above_that_is_closed_stays_closed(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    settings = Settings(home=closed / "home")
    with server(settings):
        with psycopg.connect(settings.postgres_url("postgres"), autocommit=True) as connection:
            connection.execute("checkpoint")  # opens pg_control by its whole path; the server ends when it cannot
        assert answer(settings) == 42
    assert settings.postgres_dir.stat().st_mode & 0o777 == 0o700
    assert settings.postgres_dir.stat().st_uid != 0
    assert passing_capability() is None or closed.stat().st_mode & 0o777 == 0o700


def test_the_way_is_opened_and_nothing_more(tmp_path: Path) -> None:
    closed, open_to_us = tmp_path / "closed", tmp_path / "closed" / "inside"
    closed.mkdir(mode=0o700)
    open_to_us.mkdir(mode=0o700)
    allow_passage(open_to_us)
    assert closed.stat().st_mode & 0o777 == 0o701
    assert open_to_us.stat().st_mode & 0o777 == 0o700


def test_a_home_too_deep_for_a_socket(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / ("deep" * 30) / "home")
    assert len(str(settings.postgres_socket_dir / ".s.PGSQL.5432")) <= SOCKET_PATH_LIMIT
    with server(settings):
        assert answer(settings) == 42
    remove_socket_dir(settings)
    assert not settings.socket_dir.exists()


def test_a_killed_first_start_is_begun_again(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")
    half = settings.home / "postgres.unfinished"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    with server(settings):
        assert answer(settings) == 42
    assert not half.exists()


def test_a_pid_that_belongs_to_another_program_by_now(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")
    with server(settings) as process:
        process.kill()
    pid_file = settings.postgres_dir / "postmaster.pid"
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as stranger:
        pid_file.write_text(pid_file.read_text().replace(str(process.pid), str(stranger.pid), 1))
        with server(settings):
            assert answer(settings) == 42
        assert stranger.poll() is None
        stranger.kill()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs it as another user, who must get to the binaries")
@pytest.mark.skipif(passing_capability() is None, reason="this system grants root no capability to hand on")
def test_an_installation_below_a_closed_folder_can_be_run(tmp_path: Path) -> None:
    """A clone in /root: initdb asks with access(2) whether it may run `postgres` beside it."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    user = server_user()
    assert user is not None
    postgres = BINARIES / "postgres"
    (closed / "bin").mkdir()
    (closed / "bin" / "postgres").symlink_to(postgres)
    asked = subprocess.run(
        ["test", "-x", closed / "bin" / "postgres"], preexec_fn=partial(become, user, passing_capability()), cwd="/"
    )
    assert asked.returncode == 0
