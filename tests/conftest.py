"""Of all tests that run in `.venv`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

_status = pytest.StashKey[int]()


END_TO_END = Path(__file__).parent / "e2e"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest, the runs through Airflow, starts first."""
    items.sort(key=lambda item: item.path.parent != END_TO_END)


@pytest.hookimpl(optionalhook=True)  # pytest-xdist's, which is only in one of the environments
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """What shares a fixture shares a worker: a file's tests, and all runs through Airflow, which share a stack."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFixture(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return "runs" if f"/{END_TO_END.name}/" in f"/{file}" else file

    return ByFixture(config, log)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    session.config.stash[_status] = int(exitstatus)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: Any) -> None:
    # duckdb prints a page of leaked instances when the interpreter is torn down, below the result a person looks for
    if "duckdb" in sys.modules and _status in config.stash and config.pluginmanager.has_plugin("terminalreporter"):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(config.stash[_status])
