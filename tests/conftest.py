"""Of all tests that run in `.venv`."""

from __future__ import annotations

import os
import sys
from typing import Any

import pytest

_status = pytest.StashKey[int]()


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    session.config.stash[_status] = int(exitstatus)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: Any) -> None:
    # duckdb prints a page of leaked instances when the interpreter is torn down, below the result a person looks for
    if "duckdb" in sys.modules and _status in config.stash and config.pluginmanager.has_plugin("terminalreporter"):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(config.stash[_status])
