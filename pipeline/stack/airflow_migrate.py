"""`.venv-airflow/bin/python -m pipeline.stack.airflow_migrate GPU_SLOTS`: bring Airflow's database up to date.

One process for the migration and the pool: importing Airflow costs more than either. Prints the schema's revision as
its last line. Runs in `.venv-airflow` only.
"""

from __future__ import annotations

import sys

from airflow.models.pool import Pool
from airflow.utils import db
from airflow.utils.session import create_session
from sqlalchemy import text


def main(gpu_slots: int) -> None:
    """Create or migrate the schema, and set the size of the pool `gpu`."""
    db.initdb()
    with create_session() as session:
        Pool.create_or_update_pool(
            "gpu", slots=gpu_slots, description="Stages that ask for a GPU", include_deferred=True, session=session
        )
    with create_session() as session:
        print(session.scalar(text("select version_num from alembic_version")))


if __name__ == "__main__":
    main(int(sys.argv[1]))
