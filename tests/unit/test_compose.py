"""docker/compose.yaml and the .env it reads: loopback only, healthy or not, nothing secret in what is committed."""

from __future__ import annotations

import importlib.util
import re
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.exit_codes import BadConfiguration
from pipeline.settings import settings

CHECKOUT = Path(__file__).resolve().parents[2]
FILE = CHECKOUT / "docker" / "compose.yaml"
SYSTEM: dict[str, Any] = yaml.safe_load(FILE.read_text())
SERVICES: dict[str, dict[str, Any]] = SYSTEM["services"]
SERVERS = {name: body for name, body in SERVICES.items() if body.get("restart") != "no"}
SECRET = re.compile(r"PASSWORD$|SECRET|_KEY$")


@pytest.fixture
def compose(tmp_path, monkeypatch):
    """docker/compose.py with its .env and its home in a folder of the test's."""
    (tmp_path / "docker.sock").touch()
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/docker.sock")
    monkeypatch.setenv("WARMSTART_HOME", str(tmp_path / "home"))
    specification = importlib.util.spec_from_file_location("compose", CHECKOUT / "docker" / "compose.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    module.ENV = tmp_path / ".env"
    settings.cache_clear()
    yield module
    settings.cache_clear()


def test_the_whole_system_is_there():
    airflow = {f"airflow-{part}" for part in ("api-server", "scheduler", "dag-processor", "triggerer")}
    assert set(SERVERS) == {"postgres", "redis", "mlflow"} | airflow


def test_nothing_is_bound_beyond_the_loopback_interface():
    bound = [port for body in SERVICES.values() for port in body.get("ports", [])]
    assert len(bound) == 4
    assert all(port.startswith("127.0.0.1:") for port in bound)
    assert not any("network_mode" in body or body.get("privileged") for body in SERVICES.values())


def test_every_server_says_whether_it_is_well_and_comes_back():
    assert all(body["healthcheck"]["test"] and body["restart"] == "unless-stopped" for body in SERVERS.values())


def test_what_servers_keep_is_in_named_volumes():
    named = {volume.split(":")[0] for name in ("postgres", "redis", "mlflow") for volume in SERVICES[name]["volumes"]}
    assert named == set(SYSTEM["volumes"])


def test_stages_reach_nothing_but_the_servers_they_need_and_the_engine_is_the_schedulers_alone():
    assert SYSTEM["networks"]["stages"]["internal"] is True
    assert {name for name, body in SERVICES.items() if "stages" in body["networks"]} == {"postgres", "redis", "mlflow"}
    scheduler = SERVICES["airflow-scheduler"]["environment"]
    assert scheduler["WARMSTART_DOCKER_NETWORK"] == SYSTEM["networks"]["stages"]["name"]
    assert scheduler["WARMSTART_LIFECYCLE_NETWORK"] == SYSTEM["networks"]["servers"]["name"]
    assert [name for name, body in SERVICES.items() if "docker.sock" in str(body)] == ["airflow-scheduler"]


def test_our_own_images_have_no_privilege():
    ours = [body for body in SERVICES.values() if re.search("STAGE|AIRFLOW", body["image"])]
    assert len(ours) == 7
    assert all(body["read_only"] and body["cap_drop"] == ["ALL"] for body in ours)
    assert all("no-new-privileges:true" in body["security_opt"] for body in SERVICES.values())


def test_no_secret_stands_in_the_file():
    for body in SERVICES.values():
        for name, value in body.get("environment", {}).items():
            if SECRET.search(name):
                assert re.fullmatch(r"\$\{\w+\}", value), name
            for login in re.findall(r"://\w*:([^@]*)@", str(value)):
                assert re.fullmatch(r"\$\{\w+\}", login), name


def test_passwords_are_made_once_and_kept_from_others(compose):
    first = compose.write_env()
    assert stat.S_IMODE(compose.ENV.stat().st_mode) == 0o600
    assert compose.write_env() == first == compose.read_env()
    made = [value for name, value in first.items() if SECRET.search(name)]
    assert len(set(made)) == 6
    assert all(len(value) >= 16 for value in made)
    assert set(re.findall(r"(?<!\$)\$\{(\w+)\}", FILE.read_text())) <= first.keys()


def test_git_ignores_the_passwords():
    assert subprocess.run(["git", "check-ignore", "--quiet", "docker/.env"], cwd=CHECKOUT).returncode == 0


def test_docker_compose_accepts_it(compose):
    try:
        compose.program()
    except BadConfiguration as fault:
        pytest.skip(str(fault))
    compose.write_env()
    assert compose.compose("config", "--quiet") == 0
