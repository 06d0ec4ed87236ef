"""These tests run in `.venv-airflow`: the DAGs as Airflow reads them, the operators as its workers run them."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

# Airflow reads its settings when it is first imported, so they are set here, before any test module is.
CHECKOUT = Path(__file__).resolve().parents[2]
_home = tempfile.mkdtemp(prefix="warmstart-airflow-")
os.environ |= {
    "AIRFLOW_HOME": _home,
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__CORE__PLUGINS_FOLDER": str(CHECKOUT / "plugins"),
    "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": f"{_home}/passwords.json",
    "AIRFLOW__API_AUTH__JWT_SECRET": "of-tests-only-and-long-enough-for-the-algorithm-that-signs-with-it-0123456789",
    "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{_home}/airflow.db",
}

import pytest  # noqa: E402


@pytest.fixture(scope="session")
def dag():
    """The rendered DAG `retrain`."""
    import runpy

    return runpy.run_path(str(CHECKOUT / "dags" / "retrain.py"))["dag"]
