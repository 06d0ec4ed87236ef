"""Airflow's whole configuration, as environment variables: there is no airflow.cfg to edit or to go stale.

A variable `AIRFLOW__SECTION__KEY` wins over every file, and the processes that Airflow forks inherit it. Anything
that is not set here keeps Airflow's default, and a person may set it in the shell that runs `warmstart up`.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.settings import CHECKOUT, Settings
from pipeline.stack.credentials import AirflowKeys, passwords_path

LOOPBACK = "127.0.0.1"


def airflow_home(settings: Settings) -> Path:
    """AIRFLOW_HOME of the embedded Airflow."""
    return settings.home / "airflow"


def airflow_environment(settings: Settings, keys: AirflowKeys) -> dict[str, str]:
    """What every Airflow process and every task it starts gets in its environment."""
    home = airflow_home(settings)
    configuration: dict[str, dict[str, object]] = {
        "core": {
            "dags_folder": CHECKOUT / "dags",
            "plugins_folder": CHECKOUT / "plugins",
            "load_examples": False,
            "executor": "LocalExecutor",
            "parallelism": settings.parallelism,
            "max_active_tasks_per_dag": max(16, settings.parallelism),
            # `[api] port` alone would leave the tasks talking to 8080.
            "execution_api_server_url": f"{settings.airflow_uri}/execution/",
            "hostname_callable": "pipeline.stack.hostname.loopback",
            "simple_auth_manager_users": "admin:admin,viewer:viewer",
            "simple_auth_manager_passwords_file": passwords_path(settings),
            "fernet_key": keys.fernet_key,
        },
        "database": {
            "sql_alchemy_conn": settings.postgres_url("airflow", "psycopg2"),
            "load_default_connections": False,
        },
        "api": {
            "host": settings.host,
            "port": settings.airflow_port,
            "base_url": settings.airflow_uri,
            "workers": 1,
            "secret_key": keys.secret_key,
            "expose_config": False,
            "instance_name": "Warmstart",
        },
        "api_auth": {"jwt_secret": keys.jwt_secret},
        "scheduler": {
            # The default of 1 s between looks makes a chain of ten no-op tasks take 12 s in place of 5; ten looks a
            # second cost a fifth of a core in a stack that does nothing.
            "scheduler_idle_sleep_time": 0.5,
            # How soon a task is run again whose process was killed together with the scheduler (defaults: 5 minutes).
            "orphaned_tasks_check_interval": 30,
            "task_instance_heartbeat_timeout": 120,
            "enable_health_check": False,
        },
        "dag_processor": {
            "refresh_interval": 15,
            # A DAG file that changed is read at the next refresh; this is for what it reads itself, dvc.yaml.
            "min_file_process_interval": 120,
            "parsing_processes": 1,
        },
        "logging": {
            "base_log_folder": home / "logs",
            "worker_log_server_port": settings.log_port,
            # One server reads both kinds of log: all of them lie in base_log_folder.
            "trigger_log_server_port": settings.log_port,
        },
        "usage_data_collection": {"enabled": False},
    }
    environment = {
        f"AIRFLOW__{section.upper()}__{key.upper()}": str(value)
        for section, options in configuration.items()
        for key, value in options.items()
    }
    return environment | {
        "AIRFLOW_HOME": str(home),
        "PYTHONPATH": str(CHECKOUT),
        "SCARF_ANALYTICS": "false",
        # Without it setproctitle overwrites the environment that /proc shows, and with it the mark of our processes.
        "SPT_NOENV": "1",
        # macOS ends forked children that touch its network libraries unless told otherwise.
        "OBJC_DISABLE_INITIALIZE_FORK_SAFETY": "YES",
    }
