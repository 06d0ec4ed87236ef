"""The local servers, for real: up, up again, killed in every way, refused, replaced, and down without a trace.

One stack serves the whole file; its home has a space, a percent sign and an umlaut in its name on purpose.
"""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator

import httpx
import psutil
import psycopg
import pytest

from pipeline.exit_codes import BadConfiguration, PassingFault
from pipeline.settings import Settings
from pipeline.stack import lifecycle
from pipeline.stack.check import ERROR
from pipeline.stack.credentials import airflow_passwords, passwords_path
from pipeline.stack.doctor import doctor
from pipeline.stack.processes import STACK_MARK, marked
from pipeline.stack.record import services_path
from pipeline.stack.report import EXTERNAL, status
from pipeline.stack.services import services
from pipeline.stack.supervision import Supervisor
from tests.stack_fixture import running_stack, stack_settings

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    with running_stack(tmp_path_factory.mktemp("stack") / "hömé of 100% of it") as settings:
        with psycopg.connect(settings.postgres_url("warmstart")) as connection:
            connection.execute("create table kept (what text)")
            connection.execute("insert into kept values ('a row')")
        experiment = f"{settings.mlflow_uri}/api/2.0/mlflow/experiments/create"
        httpx.post(experiment, json={"name": "kept"}).raise_for_status()
        yield settings


def nothing_is_lost(settings: Settings) -> bool:
    with psycopg.connect(settings.postgres_url("warmstart")) as connection:
        rows = connection.execute("select what from kept").fetchall()
    experiment = f"{settings.mlflow_uri}/api/2.0/mlflow/experiments/get-by-name"
    return rows == [("a row",)] and httpx.get(experiment, params={"experiment_name": "kept"}).is_success


def as_user(settings: Settings, user: str) -> httpx.Client:
    login = {"username": user, "password": airflow_passwords(settings)[user]}
    token = httpx.post(f"{settings.airflow_uri}/auth/token", json=login).raise_for_status().json()["access_token"]
    return httpx.Client(base_url=settings.airflow_uri, headers={"Authorization": f"Bearer {token}"}, timeout=30)


def pids(settings: Settings) -> dict[str, int | None]:
    return {name: process.pid for name, process in Supervisor(settings).processes().items()}


def test_everything_is_well_after_up(stack: Settings) -> None:
    assert {server.name: (server.state, server.problem) for server in status(stack)} == {
        service.name: ("RUNNING", None) for service in services(stack)
    }
    # The DAGs are another matter, with tests of their own.
    assert [check for check in doctor(stack) if check.level == ERROR and check.name != "dags"] == []


def test_up_twice_changes_nothing(stack: Settings) -> None:
    before = pids(stack)
    lifecycle.up(stack)
    assert pids(stack) == before


def test_a_running_stack_is_not_changed_under_its_tasks(stack: Settings) -> None:
    before = pids(stack)
    changed = stack.model_copy(update={"parallelism": stack.parallelism + 1})
    with pytest.raises(BadConfiguration, match=r"AIRFLOW__CORE__PARALLELISM.*warmstart down"):
        lifecycle.up(changed)
    assert pids(stack) == before


def test_secrets_are_for_the_owner_only(stack: Settings) -> None:
    for path in (passwords_path(stack), services_path(stack)):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(passwords_path(stack).parent.stat().st_mode) == 0o700
    assert len(set(airflow_passwords(stack).values())) == 2
    secrets = set(airflow_passwords(stack).values())
    assert not [log for log in (stack.home / "logs").iterdir() if any(word in log.read_text() for word in secrets)]


def test_the_viewer_looks_and_the_admin_acts(stack: Settings) -> None:
    with as_user(stack, "viewer") as viewer, as_user(stack, "admin") as admin:
        pool = {"name": "mine", "slots": 1}
        assert viewer.get("/api/v2/dags").status_code == 200
        assert viewer.post("/api/v2/dags/retrain/dagRuns", json={"logical_date": None}).status_code == 403
        assert viewer.post("/api/v2/pools", json=pool).status_code == 403
        assert admin.get("/api/v2/pools/gpu").json()["slots"] == stack.gpu_slots
        assert admin.post("/api/v2/pools", json=pool).status_code == 201
    assert httpx.get(f"{stack.airflow_uri}/api/v2/dags").status_code == 401


def test_every_port_is_on_the_loopback_interface(stack: Settings) -> None:
    listening = {
        connection.laddr
        for process in marked(str(stack.home))
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    }
    assert {ip for ip, _ in listening} == {"127.0.0.1"}
    assert {port for _, port in listening} == {stack.airflow_port, stack.mlflow_port, stack.log_port}


def test_a_taken_port_is_named_with_its_holder_and_nothing_starts(stack: Settings, tmp_path) -> None:
    server = "import socket, time; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True)"
    with subprocess.Popen([sys.executable, "-c", server + "; time.sleep(60)"], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        port = int(holder.stdout.readline())
        other = stack_settings(tmp_path / "home", mlflow_port=port, airflow_port=stack.airflow_port)
        with pytest.raises(BadConfiguration) as refusal:
            lifecycle.up(other)
        holder.kill()
    sentence = str(refusal.value)
    assert f"Port {port} of mlflow is in use by pid {holder.pid} ({sys.executable} -c import socket" in sentence
    assert "set WARMSTART_MLFLOW_PORT to a free port" in sentence
    assert f"Port {stack.airflow_port} of airflow-api-server" in sentence
    assert f"that is the stack of {stack.home}" in sentence
    assert marked(str(other.home)) == []
    assert not other.postgres_dir.exists()


def test_servers_of_others_are_looked_at_and_not_started(stack: Settings, tmp_path) -> None:
    others = stack_settings(
        tmp_path / "home",
        database_url=stack.postgres_url("postgres"),
        mlflow_tracking_uri=stack.mlflow_uri,
        airflow_api_url=stack.airflow_uri,
    )
    lifecycle.up(others)
    assert marked(str(others.home)) == []
    assert {(server.state, server.problem) for server in status(others)} == {(EXTERNAL, None)}
    assert [check for check in doctor(others) if check.level == ERROR] == []


def test_an_external_database_gets_the_databases_it_lacks(stack: Settings, tmp_path) -> None:
    with psycopg.connect(stack.postgres_url("postgres"), autocommit=True) as connection:
        connection.execute("drop database feast")
    foreign = {"mlflow_tracking_uri": stack.mlflow_uri, "airflow_api_url": stack.airflow_uri}
    others = stack_settings(tmp_path / "home", database_url=stack.postgres_url("postgres"), **foreign)
    assert "no database feast" in next(check.found for check in doctor(others) if check.name == "database")
    lifecycle.up(others)
    with psycopg.connect(stack.postgres_url("feast")) as connection:
        assert connection.execute("select 1").fetchone() == (1,)


def test_an_external_server_that_does_not_answer_is_a_passing_fault(stack: Settings, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("pipeline.stack.waiting.EXTERNAL_SECONDS", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        nowhere = f"http://127.0.0.1:{silent.getsockname()[1]}"
    others = stack_settings(
        tmp_path / "home",
        database_url=stack.postgres_url("postgres"),
        mlflow_tracking_uri=nowhere,
        airflow_api_url=stack.airflow_uri,
    )
    with pytest.raises(PassingFault, match=f"MLflow is not well after 1 s: {nowhere}/health"):
        lifecycle.up(others)
    assert "MLFLOW_TRACKING_URI" in next(check.fix for check in doctor(others) if check.name == "mlflow")


def test_the_database_killed_comes_back(stack: Settings) -> None:
    before = kill(stack, ["postgres"])
    lifecycle.up(stack)
    assert pids(stack)["postgres"] != before["postgres"]
    assert {server.problem for server in status(stack)} == {None}
    assert nothing_is_lost(stack)


def test_every_other_server_killed_comes_back(stack: Settings) -> None:
    names = [service.name for service in services(stack) if service.name != "postgres"]
    before = kill(stack, names)
    lifecycle.up(stack)
    assert [name for name, pid in pids(stack).items() if pid == before[name]] == ["postgres"]
    assert {server.problem for server in status(stack)} == {None}
    assert nothing_is_lost(stack)


def test_the_supervisor_killed_everything_is_started_afresh(stack: Settings) -> None:
    task = stray_task(stack)
    before = pids(stack)
    os.kill(Supervisor(stack).pid(), signal.SIGKILL)
    assert "without their supervisord" in next(check.found for check in doctor(stack) if check.name == "stack")
    lifecycle.up(stack)
    assert task.wait(timeout=30) is not None  # Airflow starts it again: it would run twice
    assert not set(before.values()) & set(pids(stack).values())
    assert nothing_is_lost(stack)


def test_everything_killed_comes_back_with_nothing_lost(stack: Settings) -> None:
    passwords = airflow_passwords(stack)
    for process in marked(str(stack.home)):
        process.kill()
    lifecycle.up(stack)
    assert {server.problem for server in status(stack)} == {None}
    assert nothing_is_lost(stack)
    assert airflow_passwords(stack) == passwords
    with as_user(stack, "admin") as admin:
        assert admin.get("/api/v2/pools/mine").status_code == 200


def test_down_leaves_nothing_behind(stack: Settings) -> None:
    task = stray_task(stack)
    lifecycle.down(stack)
    assert task.wait(timeout=30) is not None
    assert marked(str(stack.home)) == []
    assert not [p for p in psutil.process_iter(["cmdline"]) if str(stack.home) in " ".join(p.info["cmdline"] or [])]
    for port in (stack.airflow_port, stack.mlflow_port, stack.log_port):
        socket.create_server(("127.0.0.1", port)).close()
    assert {server.state for server in status(stack)} == {"STOPPED"}
    assert lifecycle.down(stack) == 0


def kill(settings: Settings, names: list[str]) -> dict[str, int | None]:
    """Kill services by name; returns every service's process number from before."""
    before = pids(settings)
    for name in names:
        os.kill(before[name] or 0, signal.SIGKILL)
    return before


def stray_task(settings: Settings) -> subprocess.Popen[bytes]:
    """A process like a stage that Airflow runs: a session of its own, the stack's environment."""
    return subprocess.Popen(["sleep", "600"], env=os.environ | {STACK_MARK: str(settings.home)}, start_new_session=True)
