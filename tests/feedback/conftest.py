"""Feedback as the service leaves it: rows in a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipeline.lineage.database import connected
from pipeline.settings import Settings, settings
from tests.postgres_fixture import running_postgres

Send = Callable[..., None]
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_postgres(tmp_path_factory.mktemp("postgres")) as url:
        yield url


@pytest.fixture
def home(postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """Settings of an empty home and empty tables."""
    monkeypatch.setenv("WARMSTART_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WARMSTART_DATABASE_URL", postgres)
    settings.cache_clear()
    with connected() as connection:
        connection.execute("truncate feedback, listed_items, feedback_partitions")
    yield settings()
    settings.cache_clear()


@pytest.fixture
def send(home: Settings) -> Send:
    """Insert one event, as the service does."""

    def insert(event_id: str, event: str = "click", happened_at: datetime = NOON, **more: object) -> None:
        row = {"target": "harbour", "user_id": "0123456789abcdef", "item_id": "h1", "value": None, "request_id": None}
        row |= {"received_at": happened_at} | more
        row |= {"event_id": event_id, "event": event, "happened_at": happened_at}
        names = ", ".join(row)
        marks = ", ".join(f"%({name})s" for name in row)
        with connected() as connection:
            connection.execute(f"insert into feedback ({names}) values ({marks}) on conflict do nothing", row)  # type: ignore[arg-type]

    return insert


@pytest.fixture
def list_item(home: Settings) -> Send:
    """Insert one listed item."""

    def insert(item_id: str, listed_at: datetime = NOON, text: str = "a brass lamp") -> None:
        with connected() as connection:
            connection.execute(
                "insert into listed_items (target, item_id, text, attributes, listed_at)"
                " values ('harbour', %s, %s, '{kind:lamp}', %s)",
                (item_id, text, listed_at),
            )

    return insert
