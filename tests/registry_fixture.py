"""A real MLflow server on a real PostgreSQL, and models that are registered in a tenth of a second."""

from __future__ import annotations

import itertools
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pipeline.registry.champion import (
    ALIAS,
    AS_OF_TAG,
    CONTENT_TAG,
    PREFIX,
    RUN_TAG,
    model_name,
    version_of,
)
from pipeline.registry.mlflow_rest import MlflowRest
from pipeline.registry.promotion_log import Entry, entries, log_connection
from pipeline.runs.tracking import client, experiment_id
from pipeline.settings import Settings, settings
from pipeline.stack.health import mlflow_problem
from pipeline.stack.services import mlflow
from tests.postgres_fixture import running_postgres
from tests.stack_fixture import free_ports


@dataclass
class Registry:
    """MLflow's registry and the promotion log, empty at first."""

    rest: MlflowRest
    client: Any
    home: Path
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def new_target(self) -> str:
        """A target domain that no other test uses."""
        return f"t{os.getpid()}x{next(self._numbers)}"

    def add_version(self, target: str, run_id: str, content: str = "", as_of: str = "2026-01-01T00:00:00Z") -> int:
        """A version without files, not registered through `registration`."""
        from mlflow.exceptions import MlflowException

        try:
            self.client.create_registered_model(model_name(target))
        except MlflowException as fault:
            assert fault.error_code == "RESOURCE_ALREADY_EXISTS"
        made = self.client.create_logged_model(experiment_id(self.rest), name=model_name(target))
        tags = {RUN_TAG: run_id, CONTENT_TAG: content or run_id, AS_OF_TAG: as_of}
        return int(
            self.client.create_model_version(
                model_name(target), source=f"models:/{made.model_id}", model_id=made.model_id, tags=tags,
                await_creation_for=0,
            ).version
        )  # fmt: skip

    def alias(self, target: str) -> int | None:
        """Where MLflow's alias points."""
        found = self.rest.version_by_alias(model_name(target), ALIAS)
        return version_of(found).version if found else None

    def log(self, target: str) -> list[Entry]:
        """The promotion log of a target."""
        with log_connection() as connection:
            return entries(connection, target)

    def targets(self) -> list[str]:
        """Of every registered model."""
        return [name.removeprefix(PREFIX) for name in self.rest.models(PREFIX)]


@contextmanager
def running_registry(folder: Path) -> Iterator[Registry]:
    """Start both servers, point `settings()` at them, and stop them at the end."""
    folder.mkdir(parents=True, exist_ok=True)
    [port] = free_ports(1)
    with running_postgres(folder) as database:
        home = folder / "home"
        home.mkdir()
        chosen = Settings(home=home, database_url=database, mlflow_tracking_uri=None, mlflow_port=port)
        service = mlflow(chosen)
        os.environ |= {"WARMSTART_HOME": str(home), "MLFLOW_TRACKING_URI": chosen.mlflow_uri}
        settings.cache_clear()
        log = (folder / "mlflow.log").open("w")
        server = subprocess.Popen(service.command, env=os.environ | service.environment, stdout=log, stderr=log)
        try:
            began = time.monotonic()
            while mlflow_problem(chosen) is not None:
                assert server.poll() is None and time.monotonic() - began < 120, (folder / "mlflow.log").read_text()
                time.sleep(0.1)
            yield Registry(MlflowRest(chosen.mlflow_uri), client(), home)
        finally:
            server.terminate()
            server.wait(30)


@pytest.fixture(scope="package")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """Both servers, once for all tests of the registry."""
    with running_registry(tmp_path_factory.mktemp("registry")) as running:
        yield running
