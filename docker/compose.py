"""`python docker/compose.py COMMAND…`: bring the system of docker/compose.yaml up, then run a command that uses it.

    python docker/compose.py up                    # start it, and wait until all of it is well
    python docker/compose.py warmstart run         # what `make run STACK=compose` does
    python docker/compose.py down                  # stop it; volumes and runs stay

The first start writes `docker/.env` (mode 600, ignored by git): generated passwords, ports, images, places. What
is there stays: edit it, or set the variable of that name before the first start. What is no server's own state lies in
`WARMSTART_HOME` (default `.warmstart/compose`).

| variable | meaning |
|---|---|
| `COMPOSE` | the command, where it is not `docker compose` |
| `WARMSTART_IMAGE_POSTGRES`, `WARMSTART_IMAGE_REDIS` | images of the servers |
| `WARMSTART_DATA` | the folder that datasets lie in |
"""

from __future__ import annotations

import os
import secrets
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pydantic import SecretStr

from pipeline.containers.engine import connect, inspect_image
from pipeline.containers.reaper import end_all, reap_containers
from pipeline.exit_codes import BadConfiguration, PassingFault, StageError
from pipeline.orchestration.container_mounts import IMAGE_USER
from pipeline.registry.reaper import airflow_state
from pipeline.settings import CHECKOUT, Settings, settings
from pipeline.stack.credentials import AirflowKeys, airflow_passwords, write_privately
from pipeline.stack.home import prepare_home

FOLDER = CHECKOUT / "docker"
ENV = FOLDER / ".env"
PROJECT = "warmstart"
START_SECONDS = 600


def main(words: list[str]) -> int:
    """Do what the words say; returns the exit code.

    Raises:
        PassingFault: no Docker engine answers, or a server does not become well.
        BadConfiguration: there is no docker compose, or an image is missing.
    """
    client = connect()
    if words[:1] == ["down"]:
        if (
            known := read_env()
        ):  # stages are no part of the file: the scheduler, which is stopped first, has started them
            compose("stop")
            end_all(settings_of(known), client)
        return compose("down", "--remove-orphans", *words[1:])
    variables = write_env()
    for image in ("STAGE", "AIRFLOW"):  # the others are fetched
        inspect_image(client, variables[f"WARMSTART_IMAGE_{image}"])
    if code := compose("up", "--detach", "--remove-orphans"):
        return code
    await_health(client)
    here = settings_of(variables)
    reap_containers(here, client, airflow_state(here))
    return 0 if words == ["up"] else subprocess.call(words, env=os.environ | client_environment(variables))


def write_env() -> dict[str, str]:
    """Make the home and `docker/.env`, if they are not there; returns the variables."""
    known = read_env()
    home = Path(known.get("WARMSTART_HOME") or os.environ.get("WARMSTART_HOME") or CHECKOUT / ".warmstart" / "compose")
    here = settings().model_copy(update={"home": home.absolute()})
    prepare_home(here)
    socket = os.environ.get("DOCKER_HOST", "").removeprefix("unix://") or "/var/run/docker.sock"
    owner = here.home.stat()
    keys = asdict(AirflowKeys.new())
    defaults = {
        "COMPOSE_PROJECT_NAME": PROJECT,
        "WARMSTART_HOME": str(here.home),
        "WARMSTART_CHECKOUT": str(CHECKOUT),
        "WARMSTART_DATA": str(here.home / "data"),
        "WARMSTART_UID": str(owner.st_uid or IMAGE_USER),
        "WARMSTART_GID": str(owner.st_gid if owner.st_uid else IMAGE_USER),
        "DOCKER_SOCKET": socket,
        "DOCKER_GID": str(Path(socket).stat().st_gid),
        "WARMSTART_IMAGE_STAGE": "warmstart-stage:cpu",
        "WARMSTART_IMAGE_AIRFLOW": "warmstart-airflow:latest",
        "WARMSTART_IMAGE_POSTGRES": "postgres:17-bookworm",
        "WARMSTART_IMAGE_REDIS": "redis:7-bookworm",
        "WARMSTART_AIRFLOW_PORT": str(here.airflow_port),
        "WARMSTART_MLFLOW_PORT": str(here.mlflow_port),
        "WARMSTART_POSTGRES_PORT": "5432",
        "WARMSTART_REDIS_PORT": "6379",
        "WARMSTART_PARALLELISM": str(here.parallelism),
        "WARMSTART_GPU_SLOTS": str(here.gpu_slots),
        "POSTGRES_PASSWORD": secrets.token_hex(24),  # it stands in addresses: letters and digits alone
        "REDIS_PASSWORD": secrets.token_hex(24),
        "AIRFLOW_ADMIN_PASSWORD": airflow_passwords(here)["admin"],
        **{f"AIRFLOW_{name.upper()}": value for name, value in keys.items()},
    }
    chosen = {name: os.environ[name] for name in defaults if name in os.environ and name != "WARMSTART_HOME"}
    variables = defaults | chosen | known
    Path(variables["WARMSTART_DATA"]).mkdir(parents=True, exist_ok=True)
    if os.geteuid() == 0 and owner.st_uid == 0:
        hand_over(here.home, IMAGE_USER)
    if variables != known:
        write_privately(ENV, "".join(f"{name}={value}\n" for name, value in variables.items()))
    return variables


def read_env() -> dict[str, str]:
    """What stands in `docker/.env`; nothing before the first start."""
    lines = ENV.read_text().splitlines() if ENV.exists() else []
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def client_environment(variables: Mapping[str, str]) -> dict[str, str]:
    """What leads a command on this machine to the system."""
    database = (
        f"postgresql://warmstart:{variables['POSTGRES_PASSWORD']}@127.0.0.1:{variables['WARMSTART_POSTGRES_PORT']}"
    )
    return {
        "WARMSTART_HOME": variables["WARMSTART_HOME"],
        "WARMSTART_RUNTIME": "docker",
        "WARMSTART_IMAGE_STAGE": variables["WARMSTART_IMAGE_STAGE"],
        "WARMSTART_DATABASE_URL": f"{database}/postgres",
        "WARMSTART_ONLINE_STORE_URL": (
            f"redis://:{variables['REDIS_PASSWORD']}@127.0.0.1:{variables['WARMSTART_REDIS_PORT']}"
        ),
        "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{variables['WARMSTART_MLFLOW_PORT']}",
        "WARMSTART_AIRFLOW_API_URL": f"http://127.0.0.1:{variables['WARMSTART_AIRFLOW_PORT']}",
        "WARMSTART_AIRFLOW_PASSWORD": variables["AIRFLOW_ADMIN_PASSWORD"],
    }


def settings_of(variables: Mapping[str, str]) -> Settings:
    """The system as this machine reaches it."""
    asked = client_environment(variables)
    return settings().model_copy(
        update={
            "home": Path(variables["WARMSTART_HOME"]),
            "airflow_api_url": asked["WARMSTART_AIRFLOW_API_URL"],
            "airflow_password": SecretStr(asked["WARMSTART_AIRFLOW_PASSWORD"]),
        }
    )


def hand_over(home: Path, uid: int) -> None:
    """Give what root has made to the user of the images: no container of the system is root's."""
    parts = [part for part in home.iterdir() if part.name != "run"]  # this machine's own
    for path in (home, *parts, *(path for part in parts for path in part.rglob("*"))):
        os.chown(path, uid, uid, follow_symlinks=False)


def compose(*words: str) -> int:
    """Run docker compose on our file; returns its exit code."""
    command = [*program(), "--env-file", str(ENV), "-f", str(FOLDER / "compose.yaml"), *words]
    return subprocess.call(command, env=os.environ | read_env())  # compose itself prefers the shell's variables


def program() -> list[str]:
    """The compose command: the plugin of docker, or the older program of its own.

    Raises:
        BadConfiguration: there is neither.
    """
    if chosen := os.environ.get("COMPOSE"):
        return shlex.split(chosen)
    docker = os.environ.get("DOCKER", "docker")
    if shutil.which(docker) and subprocess.run([docker, "compose", "version"], capture_output=True).returncode == 0:
        return [docker, "compose"]
    if shutil.which("docker-compose"):
        return ["docker-compose"]
    raise BadConfiguration("there is no `docker compose` here: install its plugin, or name the command in COMPOSE")


def await_health(client: Any) -> None:
    """Wait until every server is healthy.

    Raises:
        PassingFault: one has failed, or is not after `START_SECONDS`.
    """
    deadline = time.monotonic() + START_SECONDS
    while True:
        ours = client.containers(all=True, filters={"label": f"com.docker.compose.project={PROJECT}"})
        states = {c["Labels"]["com.docker.compose.service"]: client.inspect_container(c["Id"])["State"] for c in ours}
        waiting = {name: state["Health"]["Status"] for name, state in states.items() if "Health" in state}
        failed = [name for name, state in states.items() if state["ExitCode"] and not state["Running"]]
        ill = failed + [name for name, status in waiting.items() if status != "healthy"]
        if not ill:
            return
        if failed or time.monotonic() > deadline:
            raise PassingFault(
                f"not well: {', '.join(ill)}; `docker compose -f docker/compose.yaml logs NAME` says why"
            )
        time.sleep(1)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except StageError as fault:
        print(fault, file=sys.stderr)
        sys.exit(fault.exit_code)
