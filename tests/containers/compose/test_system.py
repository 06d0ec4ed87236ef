"""docker/compose.yaml brought up for real, and a run finished in it. Needs docker compose and all of its images."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.containers.labels import HOME, labels
from pipeline.exit_codes import BadConfiguration
from tests.containers.needed import engine_with_image, left_out
from tests.e2e.conftest import QUICK
from tests.stack_fixture import free_ports

CHECKOUT = Path(__file__).resolve().parents[3]
OURS = "com.docker.compose.project=warmstart"
PORTS = ("AIRFLOW", "MLFLOW", "POSTGRES", "REDIS")


@dataclass
class System:
    """A clone of this checkout, from which the system is started."""

    clone: Path
    home: Path
    engine: Any

    def make(self, *words: str) -> subprocess.CompletedProcess[str]:
        """What `make … STACK=compose` calls."""
        # the first call's stay
        ports = {f"WARMSTART_{name}_PORT": str(port) for name, port in zip(PORTS, free_ports(4), strict=True)}
        environment = os.environ | ports | {"WARMSTART_HOME": str(self.home)}
        command = [sys.executable, "docker/compose.py", *words]
        return subprocess.run(command, cwd=self.clone, env=environment, capture_output=True, text=True)

    def containers(self) -> dict[str, Any]:
        found = self.engine.containers(all=True, filters={"label": OURS})
        return {c["Labels"]["com.docker.compose.service"]: c for c in found}


@pytest.fixture(scope="module")
def system(tmp_path_factory) -> Iterator[System]:
    engine = engine_with_image()
    if engine.containers(all=True, filters={"label": OURS}):
        left_out("a system of docker/compose.yaml is there already: `docker/compose.py down` ends it")
    folder = tmp_path_factory.mktemp("compose")
    subprocess.run(["git", "clone", "--quiet", CHECKOUT, folder / "clone"], check=True)
    made = System(folder / "clone", folder / "home", engine)
    try:
        up = made.make("up")
        if up.returncode == BadConfiguration.exit_code:  # no docker compose, or an image that is not there
            left_out(up.stderr)
        assert up.returncode == 0, up.stdout + up.stderr
        yield made
    finally:
        made.make("down", "--volumes")


@pytest.fixture(scope="module")
def ended(system) -> dict[str, Any]:
    """The record of a whole run of the tiny world."""
    words = ["run", "--data", "world:tiny", "--as-of", "2026-01-01", "--targets", "harbour", "--set", " ".join(QUICK)]
    ran = system.make(sys.executable, "-m", "pipeline", *words)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    (record,) = (system.home / "records").iterdir()
    return dict(yaml.safe_load((record / "run.yaml").read_text()))


def test_a_run_is_finished_in_it(system, ended):
    assert ended["finished"]
    assert ended["images"]["stage"].startswith("sha256:")
    assert system.engine.containers(all=True, filters={"label": f"{HOME}={system.home}"}) == []


def test_features_are_in_redis_and_artifacts_in_mlflows_volume(system, ended):
    count = 'REDISCLI_AUTH="$REDIS_PASSWORD" redis-cli dbsize'
    assert int(said(system, "redis", count)) > 100
    assert int(said(system, "mlflow", "find /var/lib/mlflow -type f | wc -l")) > 0


def test_every_server_is_healthy_and_bound_to_the_loopback_interface_alone(system):
    containers = system.containers()
    assert {c["Status"].rpartition(" ")[2] for c in containers.values() if c["State"] == "running"} == {"(healthy)"}
    addresses = {port["IP"] for c in containers.values() for port in c["Ports"] if "IP" in port}
    assert addresses == {"127.0.0.1"}


def test_from_the_stages_network_nothing_else_is_reached(system):
    probe = (
        "import socket\n"
        "for host, port in [('postgres', 5432), ('mlflow', 5000), ('redis', 6379), ('airflow-api-server', 8080),\n"
        "                   ('1.1.1.1', 443), (HOST, 22)]:\n"
        "    try: socket.create_connection((host, port), 2); print(host)\n"
        "    except OSError: pass\n"
    )
    gateway = system.engine.inspect_network("warmstart_servers")["IPAM"]["Config"][0]["Gateway"]
    limits = system.engine.create_host_config(network_mode="warmstart_stages")
    made = system.engine.create_container(
        "warmstart-stage:cpu", ["python", "-c", f"HOST = {gateway!r}\n{probe}"], host_config=limits
    )
    system.engine.start(made["Id"])
    system.engine.wait(made["Id"])
    reached = system.engine.logs(made["Id"]).decode().split()
    system.engine.remove_container(made["Id"])
    assert reached == ["postgres", "mlflow", "redis"]


def test_stopping_it_ends_its_stages_too(system):
    marks = labels(system.home, "manual__x", "pretrain", 1, "")
    limits = system.engine.create_host_config(network_mode="warmstart_stages")
    made = system.engine.create_container("warmstart-stage:cpu", ["sleep", "300"], labels=marks, host_config=limits)
    system.engine.start(made["Id"])
    assert system.make("down").returncode == 0
    assert system.engine.containers(all=True, filters={"label": f"{HOME}={system.home}"}) == []
    assert system.containers() == {}


def said(system: System, service: str, script: str) -> str:
    """What a shell says in the container of a server."""
    execution = system.engine.exec_create(system.containers()[service]["Id"], ["sh", "-c", script])
    return str(system.engine.exec_start(execution["Id"]).decode())
