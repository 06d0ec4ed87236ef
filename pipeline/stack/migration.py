"""Airflow's schema, brought up to date only when it is not: importing Airflow to find out would cost seconds.

`airflow/schema.json` says which release migrated which revision. The revision is compared with the one in the database
itself, so that a marker that outlives its database (or the other way round) changes nothing.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from typing import Any

from pipeline.exit_codes import BadConfiguration, PassingFault
from pipeline.settings import CHECKOUT, Settings
from pipeline.stack.airflow_env import airflow_environment, airflow_home
from pipeline.stack.credentials import airflow_keys
from pipeline.stack.processes import STACK_MARK
from pipeline.stack.services import AIRFLOW_PYTHON

MIGRATION_SECONDS = 600


def bring_up_to_date(settings: Settings, say: Callable[[str], None]) -> None:
    """Create or migrate Airflow's schema and its pools, when the installed Airflow or a pool's size has changed.

    Raises:
        BadConfiguration: `.venv-airflow` is missing.
        PassingFault: the migration failed; the message has the end of what it said.
    """
    wanted = {"airflow": installed_airflow(), "gpu_slots": settings.gpu_slots}
    marker = airflow_home(settings) / "schema.json"
    try:
        if json.loads(marker.read_text()) == wanted | {"revision": schema_revision(settings)}:
            return
    except (FileNotFoundError, ValueError):
        pass  # never migrated, or killed while writing
    say("preparing Airflow's database")
    revision = _migrate(settings)
    marker.write_text(json.dumps(wanted | {"revision": revision}))


def installed_airflow() -> str:
    """Version of Airflow in `.venv-airflow`, from its metadata.

    Raises:
        BadConfiguration: there is none.
    """
    found = sorted(AIRFLOW_PYTHON.parent.parent.glob("lib/python3*/site-packages/apache_airflow_core-*.dist-info"))
    if not found:
        raise BadConfiguration(f"Airflow is not installed in {AIRFLOW_PYTHON.parent.parent}: run `make venvs`.")
    return found[-1].name.split("-")[1]


def schema_revision(settings: Settings) -> str | None:
    """The revision that the database is at, None when it has no schema."""
    import psycopg

    try:
        with psycopg.connect(settings.postgres_url("airflow")) as connection:
            row: Any = connection.execute("select version_num from alembic_version").fetchone()
    except psycopg.errors.UndefinedTable:
        return None
    return row[0] if row else None


def _migrate(settings: Settings) -> str:
    environment = os.environ | airflow_environment(settings, airflow_keys(settings))
    environment[STACK_MARK] = str(settings.home)
    done = subprocess.run(
        [AIRFLOW_PYTHON, "-m", "pipeline.stack.airflow_migrate", str(settings.gpu_slots)],
        env=environment,
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=MIGRATION_SECONDS,
    )
    if done.returncode:
        raise PassingFault(f"Airflow's database could not be prepared: {(done.stderr or done.stdout)[-1500:]}")
    return done.stdout.strip().splitlines()[-1]
