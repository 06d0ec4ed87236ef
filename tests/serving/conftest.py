"""A PostgreSQL for all tests of the service, and a running service for each that asks for one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from pipeline.lineage.database import index_url, prepare
from pipeline.serving.access import first_key
from pipeline.serving.app import make_app
from pipeline.settings import settings
from tests.postgres_fixture import running_postgres
from tests.served_fixture import FakeRegistry, clear_log, fake_mlflow, served_folder


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine a read may take longer than a user would wait; that is not what is tested."""
    monkeypatch.setattr("pipeline.serving.users.LOOKUP_SECONDS", 30.0)


@pytest.fixture(scope="package")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its address; `settings()` points at it."""
    with running_postgres(tmp_path_factory.mktemp("postgres")):
        prepare(index_url())
        yield index_url()


@pytest.fixture(scope="package")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`served_folder`, each made once."""
    root = tmp_path_factory.mktemp("served")
    return lambda seed=1, **changed: served_folder(root, seed, **changed)


@pytest.fixture
def registry(postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeRegistry]:
    """An empty registry and a home, `settings()` points at both."""
    import psycopg

    clear_log()
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("truncate feedback, listed_items")
    with fake_mlflow(FakeRegistry(tmp_path / "home")) as found:
        monkeypatch.setenv("WARMSTART_HOME", str(found.home))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", found.address)
        settings.cache_clear()
        yield found
    settings.cache_clear()


@dataclass
class Running:
    """A service in this process."""

    client: TestClient
    service: Any
    registry: FakeRegistry

    def post(self, path: str, body: Any, **more: Any) -> httpx.Response:
        """With the key."""
        return self.client.post(path, json=body, **more)

    def wait_for(self, condition: Callable[[], Any], seconds: float = 20.0) -> Any:
        """Until it is true."""
        began = time.monotonic()
        while not (found := condition()):
            assert time.monotonic() - began < seconds, self.client.get("/readyz").text
            time.sleep(0.02)
        return found

    def wait_for_version(self, version: int, target: str = "t") -> None:
        """Until this version answers."""
        self.wait_for(lambda: (c := self.service.champions.current.get(target)) and c.identity.version == version)


@contextmanager
def running(registry: FakeRegistry, **arguments: Any) -> Iterator[Running]:
    """Start the application, wait for nothing."""
    app = make_app(settings(), poll_seconds=0.05, **arguments)
    with TestClient(app, headers={"X-API-Key": first_key(registry.home)}, raise_server_exceptions=False) as client:
        yield Running(client, app.state.service, registry)


@pytest.fixture
def served(registry: FakeRegistry, folders: Callable[..., Path]) -> Iterator[Running]:
    """A service whose champion is version 1."""
    registry.add(folders(1), 1)
    registry.promote(1)
    with running(registry) as found:
        found.wait_for_version(1)
        yield found
