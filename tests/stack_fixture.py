"""A real stack in a folder of a test's own, on free ports.

with running_stack(tmp_path / "home") as settings:
    ...
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from pipeline import settings as settings_module
from pipeline.settings import Settings
from pipeline.stack import lifecycle
from pipeline.stack.services import stack_environment


def free_ports(count: int) -> list[int]:
    """TCP ports that nobody listens on; held together while choosing, so that no two are the same."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def stack_settings(home: Path, **changes: Any) -> Settings:
    """Settings of a stack in `home` on free ports, whatever the environment of the tests says."""
    airflow, mlflow, log = free_ports(3)
    nothing: dict[str, Any] = {"database_url": None, "mlflow_tracking_uri": None, "airflow_api_url": None}
    ports: dict[str, Any] = {"airflow_port": airflow, "mlflow_port": mlflow, "log_port": log}
    return Settings(home=home.absolute(), **nothing | ports | changes)


@contextmanager
def running_stack(home: Path, **changes: Any) -> Iterator[Settings]:
    """Start a stack, point this process's environment and `settings()` at it, and take it down at the end.

    Args:
        changes: fields of `Settings` that differ from the defaults.
    """
    chosen = stack_settings(home, **changes)
    with environment_of(chosen):
        try:
            lifecycle.up(chosen)
            yield chosen
        finally:
            lifecycle.down(chosen)


@contextmanager
def environment_of(chosen: Settings) -> Iterator[None]:
    """The environment in which `settings()` here and in child processes gives `chosen`."""
    before = dict(os.environ)
    for name in ("WARMSTART_DATABASE_URL", "WARMSTART_AIRFLOW_API_URL", "MLFLOW_TRACKING_URI"):
        os.environ.pop(name, None)
    os.environ.update(stack_environment(chosen))
    if chosen.mlflow_tracking_uri:
        os.environ["MLFLOW_TRACKING_URI"] = chosen.mlflow_tracking_uri
    settings_module.settings.cache_clear()
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
        settings_module.settings.cache_clear()
