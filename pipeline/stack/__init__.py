"""The local servers: `warmstart up | down | status | doctor`.

Embedded PostgreSQL, MLflow and Airflow's processes under one `supervisord`, with all state under `$WARMSTART_HOME`:

    run/         services.json (what was started, and how), supervisord's conf, socket and pid
    logs/        one log a service, rotated
    secrets/     the passwords of Airflow's users and the keys it signs with (mode 600)
    postgres/    PostgreSQL's data
    mlflow/      MLflow's artifacts
    airflow/     AIRFLOW_HOME: task logs, plugins

Start with `lifecycle.py`; which servers there are stands in `services.py`.
"""
