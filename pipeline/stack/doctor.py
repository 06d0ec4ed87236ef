"""`doctor`: is this machine fit, are the servers well, and what to do about each thing that is wrong."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.settings import Settings
from pipeline.stack import containers, machine_checks, server_checks
from pipeline.stack.check import ERROR, MARKS, OK, WARNING, Check

__all__ = ["ERROR", "MARKS", "OK", "WARNING", "Check", "doctor"]

CHECKS: list[Callable[[Settings], list[Check]]] = [
    machine_checks.python,
    machine_checks.environments,
    machine_checks.git,
    machine_checks.home,
    machine_checks.memory,
    containers.runtime,
    server_checks.supervisor,
    server_checks.ports,
    server_checks.database,
    server_checks.clock,
    server_checks.mlflow,
    server_checks.airflow,
    server_checks.dags,
    server_checks.dvc_remote,
    server_checks.online_store,
]


def doctor(settings: Settings) -> list[Check]:
    """All checks, in the order in which a person would repair things. Starts and changes nothing."""
    return [found for check in CHECKS for found in check(settings)]
