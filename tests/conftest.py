"""Of all tests that run in `.venv`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

_status = pytest.StashKey[int]()


END_TO_END = Path(__file__).parent / "e2e"


@pytest.hookimpl(tryfirst=True)  # before xdist looks for the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What shares a fixture shares a worker (`-n 2 --dist loadgroup`); what takes longest, the runs, starts first."""
    items.sort(key=lambda item: item.path.parent != END_TO_END)
    for item in items:
        group = "runs" if item.path.parent == END_TO_END else str(item.path)
        item.add_marker(pytest.mark.xdist_group(group))


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    session.config.stash[_status] = int(exitstatus)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: Any) -> None:
    # duckdb prints a page of leaked instances when the interpreter is torn down, below the result a person looks for
    if "duckdb" in sys.modules and _status in config.stash and config.pluginmanager.has_plugin("terminalreporter"):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(config.stash[_status])
