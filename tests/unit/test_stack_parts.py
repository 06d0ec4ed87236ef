"""What of the stack needs no server: homes, ports, records, pins, proxies, and the words people get."""

from __future__ import annotations

import configparser
import errno
import json
import os
import socket
import subprocess
import threading
import time
from pathlib import Path
from unittest.mock import Mock

import psutil
import pytest

from pipeline import settings as settings_module
from pipeline.exit_codes import BadConfiguration, PassingFault
from pipeline.settings import Settings
from pipeline.stack import home, machine_checks, ports
from pipeline.stack.airflow_env import airflow_environment
from pipeline.stack.check import ERROR, OK
from pipeline.stack.credentials import AirflowKeys, airflow_keys, airflow_passwords, create_credentials, passwords_path
from pipeline.stack.doctor import doctor
from pipeline.stack.record import refuse_other_settings, write_record
from pipeline.stack.report import status
from pipeline.stack.services import Service, services, task_environment
from pipeline.stack.supervision import Process, Supervisor, without_proxy
from pipeline.stack.waiting import Waiting
from tests.stack_fixture import environment_of, stack_settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return stack_settings(tmp_path / "home")


def test_a_home_under_a_file_is_refused_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadConfiguration, match=r"cannot be written \(Not a directory\): .*WARMSTART_HOME"):
        home.prepare_home(Settings(home=tmp_path / "file" / "home"))


def test_a_full_disk_may_pass(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    with pytest.raises(PassingFault, match="No space left for"):
        home.prepare_home(settings)


def test_a_socket_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "ours").symlink_to(tmp_path / "theirs")
    with pytest.raises(BadConfiguration, match="belongs to somebody else"):
        home.prepare_socket_dir(tmp_path / "ours")


def test_looking_writes_nothing(settings: Settings) -> None:
    assert {server.state for server in status(settings)} == {"STOPPED"}
    assert [check for check in doctor(settings) if check.level == ERROR and not check.name.startswith(".venv")] == []
    assert not settings.home.exists()


def test_credentials_are_made_once(settings: Settings) -> None:
    assert airflow_keys(settings) == AirflowKeys()
    create_credentials(settings)
    keys, passwords = airflow_keys(settings), airflow_passwords(settings)
    passwords_path(settings).chmod(0o644)
    create_credentials(settings)
    assert (airflow_keys(settings), airflow_passwords(settings)) == (keys, passwords)
    assert passwords_path(settings).stat().st_mode & 0o777 == 0o600
    assert set(passwords) == {"admin", "viewer"}


def test_a_setting_that_is_no_number_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WARMSTART_AIRFLOW_PORT", "abc")
    settings_module.settings.cache_clear()
    with pytest.raises(
        BadConfiguration, match="WARMSTART_AIRFLOW_PORT=abc cannot be used: Input should be a valid int"
    ):
        settings_module.settings()


def test_two_services_on_one_port(settings: Settings) -> None:
    same = settings.model_copy(update={"log_port": settings.airflow_port})
    with pytest.raises(BadConfiguration, match="WARMSTART_AIRFLOW_PORT and WARMSTART_LOG_PORT are both"):
        ports.check(same, services(same), running=set())


def test_every_port_that_is_taken_is_named(settings: Settings) -> None:
    with (
        socket.create_server(("127.0.0.1", settings.airflow_port)),
        socket.create_server(("127.0.0.1", settings.mlflow_port)),
    ):
        with pytest.raises(BadConfiguration) as refusal:
            ports.check(settings, services(settings), running=set())
        ports.check(settings, services(settings), running={"mlflow", "airflow-api-server"})
    assert f"Port {settings.airflow_port} of airflow-api-server" in str(refusal.value)
    assert f"Port {settings.mlflow_port} of mlflow" in str(refusal.value)


def test_a_port_that_is_none(settings: Settings) -> None:
    with pytest.raises(BadConfiguration, match=r"mlflow cannot listen on .*:70000 .*WARMSTART_MLFLOW_PORT"):
        wrong = settings.model_copy(update={"mlflow_port": 70000})
        ports.check(wrong, services(wrong), running=set())


def test_other_settings_are_named_without_their_values(settings: Settings) -> None:
    create_credentials(settings)
    write_record(settings, services(settings))
    refuse_other_settings(settings, services(settings))
    changed = settings.model_copy(update={"gpu_slots": 3, "mlflow_port": 5001})
    with pytest.raises(BadConfiguration) as refusal:
        refuse_other_settings(changed, services(changed))
    assert "(MLFLOW_TRACKING_URI, WARMSTART_GPU_SLOTS, WARMSTART_MLFLOW_PORT, mlflow differ)" in str(refusal.value)
    without = services(settings.model_copy(update={"mlflow_tracking_uri": "http://elsewhere"}))
    with pytest.raises(BadConfiguration, match="mlflow"):
        refuse_other_settings(settings, without)


def test_replaced_servers_are_not_ours(settings: Settings) -> None:
    def names(**changes: str) -> set[str]:
        return {service.name for service in services(settings.model_copy(update=changes))}

    everything = names()
    assert everything - names(database_url="postgresql://u@elsewhere/x") == {"postgres"}
    assert everything - names(mlflow_tracking_uri="http://elsewhere") == {"mlflow"}
    assert names(airflow_api_url="http://elsewhere") == {"postgres", "mlflow"}


@pytest.mark.parametrize(
    "elsewhere",
    [
        {"database_url": "postgresql://u@elsewhere/x"},
        {"mlflow_tracking_uri": "http://elsewhere"},
        {"online_store_url": "redis://elsewhere"},
        {"docker_network": "mine"},
        {"host": "10.0.0.7"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_containers_do_without_a_network_where_every_server_is_the_stacks_own(
    settings: Settings, elsewhere: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def have_a_door(**changes: str) -> bool:
        chosen = settings.model_copy(update={"runtime": "docker", **changes})
        started = "mlflow-door" in {service.name for service in services(chosen)}
        assert started == ("WARMSTART_MLFLOW_DOOR" in task_environment(chosen))
        return started

    assert have_a_door()
    assert not have_a_door(runtime="process")
    assert not have_a_door(**elsewhere)
    monkeypatch.setenv("OPENLINEAGE_URL", "http://elsewhere")
    assert not have_a_door()


def test_airflow_is_told_everything_that_follows_from_the_port(settings: Settings) -> None:
    environment = airflow_environment(settings, AirflowKeys.new())
    base = f"http://127.0.0.1:{settings.airflow_port}"
    assert environment["AIRFLOW__API__BASE_URL"] == base
    assert environment["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] == f"{base}/execution/"
    assert environment["AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT"] == str(settings.log_port)


def test_the_environment_gives_the_settings_back(settings: Settings) -> None:
    with environment_of(settings):  # MLflow's client leaves its server's address in the environment of other tests
        assert Settings() == settings
    assert task_environment(settings)["MLFLOW_TRACKING_URI"] == settings.mlflow_uri


def test_the_configuration_survives_any_home(tmp_path: Path) -> None:
    odd = stack_settings(tmp_path / "100% of 'my' home")
    text = Supervisor(odd)._configuration([Service("mlflow", ["/bin/true"])])
    parsed = configparser.RawConfigParser()
    parsed.read_string(text)
    assert parsed["supervisord"]["logfile"].replace("%%", "%") == str(odd.home / "logs" / "supervisord.log")


def test_pins_that_count_everywhere() -> None:
    text = "# comment\nTorch_Geometric==1.0\nonly-here==2 ; sys_platform == 'win32'\ntorch==2.13.0+cpu\n"
    assert machine_checks.pins(text) == {"torch-geometric": "1.0", "torch": "2.13.0"}


def test_an_environment_that_is_not_as_pinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_checks, "CHECKOUT", tmp_path)
    requirements = tmp_path / "stages.txt"
    requirements.write_text("torch==2.13.0\npandas==2.3.3\n")
    assert machine_checks._environment(".venv", requirements).fix == "Run `make venvs`."
    site = tmp_path / ".venv" / "lib" / "python3.11" / "site-packages"
    for name, version in {"torch": "2.13.0+cpu", "pandas": "3.0.0"}.items():
        metadata = site / f"{name}-{version}.dist-info" / "METADATA"
        metadata.parent.mkdir(parents=True)
        metadata.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (tmp_path / ".venv" / "bin").mkdir()
    (tmp_path / ".venv" / "bin" / "python").touch()
    assert machine_checks._environment(".venv", requirements).found == "pandas 3.0.0, not 2.3.3"
    requirements.write_text("torch==2.13.0\n")
    assert machine_checks._environment(".venv", requirements).level == OK


@pytest.mark.parametrize(
    ("inherited", "expected"),
    [(None, "localhost,127.0.0.1,::1"), ("intranet", "intranet,localhost,127.0.0.1,::1")],
)
def test_the_servers_talk_past_a_proxy(inherited: str | None, expected: str) -> None:
    assert without_proxy(inherited) == expected


def test_the_record_is_private(settings: Settings) -> None:
    write_record(settings, services(settings))
    path = settings.home / "run" / "services.json"
    assert path.stat().st_mode & 0o777 == 0o600
    assert json.loads(path.read_text())["home"] == str(settings.home)


def test_a_killed_process_may_let_go_of_its_port(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    killed = subprocess.Popen(["true"])
    while psutil.Process(killed.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    monkeypatch.setattr(ports, "port_holder", lambda _: psutil.Process(killed.pid))
    with socket.create_server(("127.0.0.1", settings.mlflow_port)) as held:
        threading.Timer(0.5, held.close).start()
        ports.check(settings, services(settings), running=set())
    killed.wait()


def test_the_answer_of_a_left_over_is_not_the_servers(settings: Settings) -> None:
    """MLflow's worker outlives a killed MLflow, answers once more and is ended; MLflow itself has yet to come up."""
    us = Process("mlflow", "RUNNING", os.getpid(), 0.0, "")
    said: list[str] = []
    servers: list[socket.socket] = []
    answers = iter([None, "refused", None, None])

    def probe() -> str | None:
        if len(said) == 2 and not servers:
            servers.append(socket.create_server((settings.host, settings.mlflow_port)))
        return next(answers)

    waiting = Waiting(settings, Mock(processes=lambda: {"mlflow": us}), said.append)
    waiting.until("MLflow", "mlflow", probe)
    assert said == ["waiting for MLflow: nothing listens on its port", "waiting for MLflow: refused"]
    assert len(servers) == 1
    servers[0].close()
