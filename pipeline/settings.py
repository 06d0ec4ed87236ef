"""Where the servers and the state are: environment variables with defaults for a bare machine.

Each server of the embedded stack can be replaced by an existing one by setting its variable; `None` means embedded.
"""

from __future__ import annotations

import hashlib
import os
from functools import cache
from pathlib import Path
from typing import Literal
from urllib.parse import quote, urlsplit, urlunsplit

from pydantic import AliasChoices, Field, SecretStr, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict

from pipeline.exit_codes import BadConfiguration

CHECKOUT = Path(__file__).resolve().parent.parent
DATABASES = ("airflow", "mlflow", "feast", "warmstart")
SOCKET_PATH_LIMIT = 100  # sun_path holds 108 bytes on Linux and 104 on macOS, with the closing zero


class Settings(BaseSettings):
    """Environment variables (`WARMSTART_…` unless the field names another)."""

    model_config = SettingsConfigDict(env_prefix="WARMSTART_", frozen=True, populate_by_name=True)

    home: Path = Field(default=CHECKOUT / ".warmstart", description="state of the stack and of every run")
    database_url: str | None = Field(default=None, description="postgresql://… in place of the embedded server")
    mlflow_tracking_uri: str | None = Field(
        default=None, validation_alias=AliasChoices("MLFLOW_TRACKING_URI", "mlflow_tracking_uri")
    )
    airflow_api_url: str | None = Field(default=None, description="http://… of an Airflow that is not ours")
    airflow_user: str = Field(default="admin", description="who triggers runs")
    airflow_password: SecretStr | None = Field(default=None, description="of that user; only for an Airflow not ours")
    online_store_url: str | None = Field(default=None, description="redis://… in place of PostgreSQL")
    dvc_remote_url: str | None = Field(default=None, description="s3://… or a folder; default $HOME/dvc/remote")
    airflow_port: int = 8080
    mlflow_port: int = 5000
    log_port: int = Field(default=8793, description="Airflow's log server, for the logs of tasks still running")
    host: str = "127.0.0.1"
    parallelism: int = Field(
        default=min(4, max(2, os.cpu_count() or 2)),
        ge=1,
        description="tasks that Airflow runs at the same time",
    )
    gpu_slots: int = Field(
        default_factory=lambda settings: _gpus() or settings["parallelism"],
        ge=1,
        description="slots of Airflow's pool `gpu`: a GPU is one stage's at a time; without any, stages share the CPU",
    )
    runtime: Literal["process", "docker", "kubernetes"] = Field(default="process", description="where a stage runs")
    image_stage: str | None = Field(default=None, description="image of the stages; default warmstart-stage:cpu")
    docker_network: str | None = Field(
        default=None,
        description="of stages' containers; default: none where every server is the stack's own, else the host's",
    )
    keep_failed_days: float = Field(default=7, description="how long the workspace of a failed run is kept")

    @property
    def mlflow_uri(self) -> str:
        """The tracking server every stage talks to."""
        return self.mlflow_tracking_uri or f"http://{self.host}:{self.mlflow_port}"

    @property
    def airflow_uri(self) -> str:
        """Base address of Airflow's API server."""
        return (self.airflow_api_url or f"http://{self.host}:{self.airflow_port}").rstrip("/")

    @property
    def dvc_remote(self) -> str:
        """Where artifacts are pushed when a run closes."""
        return self.dvc_remote_url or str(self.home / "dvc" / "remote")

    @property
    def postgres_dir(self) -> Path:
        """Data folder of the embedded PostgreSQL."""
        return self.home / "postgres"

    @property
    def socket_dir(self) -> Path:
        """Folder of the stack's unix sockets: in the home, or in /tmp when a socket's path would be too long.

        Not under `$TMPDIR`, which may differ between the shell that starts the stack and the one that stops it.
        """
        inside = self.home / "run"
        if len(os.fsencode(inside / "postgres" / ".s.PGSQL.5432")) <= SOCKET_PATH_LIMIT:
            return inside
        digest = hashlib.sha256(os.fsencode(self.home)).hexdigest()[:12]
        return Path("/tmp") / f"warmstart-{digest}"

    @property
    def postgres_socket_dir(self) -> Path:
        """Folder of the embedded PostgreSQL's unix socket."""
        return self.socket_dir / "postgres"

    @property
    def mlflow_socket(self) -> Path:
        """The door to the embedded MLflow, for containers without a network."""
        return self.socket_dir / "mlflow" / "door.sock"

    def postgres_url(self, database: str, driver: str = "") -> str:
        """SQLAlchemy/libpq URL of one of `DATABASES`; `driver` is e.g. `psycopg` or `psycopg2`."""
        scheme = "postgresql" + (f"+{driver}" if driver else "")
        if self.database_url is None:
            return f"{scheme}://postgres:@/{database}?host={quote(str(self.postgres_socket_dir))}"
        parts = urlsplit(self.database_url)
        return urlunsplit((scheme, parts.netloc, f"/{database}", parts.query, ""))


def _gpus() -> int:
    return len(list(Path("/proc/driver/nvidia/gpus").glob("*")))  # NVIDIA's driver; there is nothing without one


@cache
def settings() -> Settings:
    """The settings of this process; `settings.cache_clear()` re-reads the environment (tests).

    Raises:
        BadConfiguration: names the variable whose value cannot be used.
    """
    try:
        found = Settings()
    except ValidationError as error:
        raise BadConfiguration("; ".join(map(_sentence, error.errors()))) from error
    return found.model_copy(update={"home": found.home.expanduser().absolute()})


def _sentence(error: ErrorDetails) -> str:
    name = str(error["loc"][0])
    variable = name if name.isupper() else f"{Settings.model_config['env_prefix']}{name}".upper()
    return f"{variable}={error['input']} cannot be used: {error['msg']}."
