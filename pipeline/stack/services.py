"""Which servers the stack has, how each is started, and which of them are somebody else's.

The table is written to `run/services.json` at `up` (mode 600: it holds keys), and `pipeline.stack.child` starts a
service from there alone. So a server that is restarted after a crash gets exactly what it had at `up`, whatever has
changed in the shell since.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.containers import door
from pipeline.openlineage.delivery import CODE_URL_VARIABLE, code_url, receiver_is_configured
from pipeline.settings import CHECKOUT, Settings
from pipeline.stack.airflow_env import LOOPBACK, airflow_environment
from pipeline.stack.credentials import airflow_keys

AIRFLOW_PYTHON = CHECKOUT / ".venv-airflow" / "bin" / "python"


@dataclass(frozen=True)
class Service:
    """One supervised process.

    Attributes:
        command: argv, the program by its absolute path.
        environment: on top of what `up` was started with.
        port: the TCP port it listens on, if any.
        stop_signal: what asks it to end; PostgreSQL's "fast shutdown" is INT.
        stop_seconds: how long it may take before it is killed.
        priority: lower starts earlier and stops later.
    """

    name: str
    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    port: int | None = None
    stop_signal: str = "TERM"
    stop_seconds: int = 10
    priority: int = 100


def stage_python() -> Path:
    """The interpreter that runs stages and everything else that is not Airflow."""
    ours = CHECKOUT / ".venv" / "bin" / "python"
    return ours if ours.exists() else Path(sys.executable)


def services(settings: Settings) -> list[Service]:
    """The servers that this stack runs itself, in the order in which they start."""
    return [
        *([postgres(settings)] if settings.database_url is None else []),
        *([mlflow(settings)] if settings.mlflow_tracking_uri is None else []),
        *([mlflow_door(settings)] if has_door(settings) else []),
        *(airflow(settings) if settings.airflow_api_url is None else []),
    ]


def postgres(settings: Settings) -> Service:
    """PostgreSQL on a unix socket only."""
    module = [str(stage_python()), "-m", "pipeline.stack.postgres"]
    return Service(
        "postgres",
        [*module, str(settings.postgres_dir), str(settings.postgres_socket_dir)],
        stop_signal="INT",
        stop_seconds=30,
        priority=10,
    )


def mlflow(settings: Settings) -> Service:
    """MLflow's tracking server and registry; artifacts go through it, so that clients need only its address."""
    options = {
        "backend-store-uri": settings.postgres_url("mlflow", "psycopg"),
        "artifacts-destination": (settings.home / "mlflow" / "artifacts").as_uri(),
        "host": settings.host,
        "port": settings.mlflow_port,
        "workers": 1,
    }
    arguments = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    return Service(
        "mlflow",
        [str(stage_python()), "-m", "mlflow", "server", "--serve-artifacts", *arguments],
        {
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # 457 MB in place of 1.5 GB
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        },
        port=settings.mlflow_port,
        priority=20,
    )


def has_door(settings: Settings) -> bool:
    """Whether stages' containers do without a network: every server that they speak to is this stack's own."""
    other_servers = (settings.database_url, settings.mlflow_tracking_uri, settings.online_store_url)
    return (
        settings.runtime == "docker"
        and settings.docker_network is None
        and settings.host in (LOOPBACK, "localhost", "0.0.0.0")  # else its address means nothing in a container
        and not any(other_servers)
        and not receiver_is_configured()
    )


def mlflow_door(settings: Settings) -> Service:
    """A unix socket to MLflow, which stages' containers are given in place of a network."""
    place = [str(settings.mlflow_socket), settings.host, str(settings.mlflow_port)]
    return Service("mlflow-door", [str(stage_python()), door.__file__, "in", *place], priority=25)


def airflow(settings: Settings) -> list[Service]:
    """Airflow's four processes, and its log server on the loopback interface (its own binds to every interface)."""
    environment = airflow_environment(settings, airflow_keys(settings)) | task_environment(settings)
    python = str(AIRFLOW_PYTHON)
    log_server = "uvicorn --factory airflow.utils.serve_logs.log_server:get_app --no-access-log --log-level warning"
    commands: dict[str, tuple[list[str], int | None]] = {
        "airflow-api-server": (["airflow", "api-server"], settings.airflow_port),
        "airflow-scheduler": (["airflow", "scheduler", "--skip-serve-logs"], None),
        "airflow-dag-processor": (["airflow", "dag-processor"], None),
        "airflow-triggerer": (["airflow", "triggerer", "--skip-serve-logs"], None),
        "airflow-log-server": (
            [*log_server.split(), "--host", LOOPBACK, "--port", str(settings.log_port)],
            settings.log_port,
        ),
    }
    return [
        Service(name, [python, "-m", *command], environment, port=port, priority=30)
        for name, (command, port) in commands.items()
    ]


def task_environment(settings: Settings) -> dict[str, str]:
    """What a task must know to find the checkout, the stages' interpreter and the servers."""
    sockets = {"WARMSTART_POSTGRES_SOCKETS": str(settings.postgres_socket_dir)} if settings.database_url is None else {}
    doors = {"WARMSTART_MLFLOW_DOOR": str(settings.mlflow_socket)} if has_door(settings) else {}
    return (
        stack_environment(settings)
        | sockets
        | doors
        | {
            CODE_URL_VARIABLE: code_url(),
            "WARMSTART_CHECKOUT": str(CHECKOUT),
            "WARMSTART_PYTHON": str(stage_python()),
            "MLFLOW_TRACKING_URI": settings.mlflow_uri,
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        }
    )


def stack_environment(settings: Settings) -> dict[str, str]:
    """The settings as environment variables (those that have a value), for processes of this stack."""
    values = settings.model_dump(exclude={"mlflow_tracking_uri"}, exclude_none=True)
    return {f"WARMSTART_{name.upper()}": str(value) for name, value in values.items()}
