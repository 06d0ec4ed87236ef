"""One real stack whose stages are containers: PostgreSQL, MLflow, Airflow, a Docker engine. These run in `.venv`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from pipeline.follow.airflow_api import AirflowApi
from pipeline.stack.credentials import airflow_passwords
from tests.containers.needed import engine_with_image
from tests.e2e.conftest import QUICK, Ended, Night
from tests.stack_fixture import running_stack

# every stage at work, the generator of sequences too, in little time
STEPS = {"source_steps": 20, "target_steps": 20, "adversarial_steps": 4, "epochs": 2, "bootstrap_samples": 100}
WORK = [*QUICK, "augment.enabled=true", *(f"augment.{name}={value}" for name, value in STEPS.items())]
CANARIES = {"AWS_SECRET_ACCESS_KEY": "canary-of-the-object-store", "MLFLOW_TRACKING_TOKEN": "canary-of-mlflow"}


@pytest.fixture(scope="session")
def engine() -> Any:
    """A client of the engine."""
    return engine_with_image()


@pytest.fixture(scope="session")
def docker_night(engine, tmp_path_factory) -> Iterator[Night]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in CANARIES.items():
            patch.setenv(name, value)
        with running_stack(tmp_path_factory.mktemp("docker") / "home", runtime="docker") as settings:
            api = AirflowApi(settings.airflow_uri, "admin", airflow_passwords(settings)["admin"])
            api.await_dag()
            yield Night(settings, api)


@pytest.fixture(scope="session")
def in_containers(docker_night) -> Ended:
    """A whole run of the tiny world in containers."""
    return docker_night.run(targets=["harbour"], overrides=WORK)
