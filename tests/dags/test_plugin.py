"""Warmstart's plugin in a real Airflow API server: pages need a login, nothing else is served, links lead there."""

from __future__ import annotations

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest
import yaml
from airflow import plugins_manager
from fastapi.testclient import TestClient

from pipeline.orchestration.location import CHECKOUT
from pipeline.orchestration.plugin import RunPageLink
from pipeline.orchestration.stage import StageOperator

RUN = "manual__2026-01-01T00-00-00-00-00"
ADDRESS = f"/warmstart/runs/{RUN}"


@pytest.fixture(scope="module")
def server():
    """Airflow's whole API application, as `airflow api-server` makes it, on a database of its own."""
    subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], check=True, capture_output=True)
    from airflow.api_fastapi.app import create_app

    return create_app(apps="core")


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home with the record of one run, and secrets beside it."""
    monkeypatch.setenv("WARMSTART_HOME", str(tmp_path))
    record = tmp_path / "records" / RUN
    (record / "reports" / "evaluation" / "harbour").mkdir(parents=True)
    (record / "reports" / "evaluation" / "harbour" / "report.html").write_text("<p>evaluated")
    (record / "run.html").write_text("<p>the page")
    run = {"run_id": "manual__2026-01-01T00:00:00+00:00", "closed": "2026-01-01T00:00:00Z", "finished": True}
    (record / "run.yaml").write_text(yaml.safe_dump(run | {"targets": []}))
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "key.html").write_text("SECRET")
    (tmp_path / "records" / "outside.html").write_text("SECRET")
    (record / "reports" / "link.html").symlink_to(tmp_path / "secrets" / "key.html")
    (record / ".hidden.html").write_text("SECRET")
    return tmp_path


def client(server, role: str | None = "viewer") -> TestClient:
    """Somebody's browser; without a role nobody's."""
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

    found = TestClient(server, base_url="http://testserver", follow_redirects=False)
    if role:
        user = SimpleAuthManagerUser(username="someone", role=role)
        found.cookies.set("_token", get_auth_manager().generate_jwt(user))
    return found


def test_airflow_loads_it_without_a_complaint():
    plugins, errors = plugins_manager._get_plugins()
    assert "warmstart" in [plugin.name for plugin in plugins]
    assert errors == {}


def test_a_viewer_sees_the_runs_and_their_pages(server, home):
    browser = client(server)
    listing = browser.get("/warmstart/runs/")
    assert listing.status_code == 200
    assert f'href="{RUN}/run.html"' in listing.text
    assert browser.get(f"{ADDRESS}/run.html").text == "<p>the page"
    assert browser.get(f"{ADDRESS}/").text == "<p>the page"
    assert browser.get(f"{ADDRESS}/reports/evaluation/harbour/report.html").text == "<p>evaluated"
    assert "default-src 'none'" in listing.headers["content-security-policy"]
    assert listing.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "address", ["/warmstart/", "/warmstart/runs/", f"{ADDRESS}/run.html", f"{ADDRESS}/reports/x.html"]
)
def test_nobody_sees_anything(server, home, address):
    assert client(server, None).get(address).status_code == 401
    stranger = client(server, None)
    stranger.cookies.set("_token", "forged")
    assert stranger.get(address).status_code in (401, 403)


def test_a_browser_without_a_login_is_sent_to_it_and_back(server, home):
    answer = client(server, None).get(f"{ADDRESS}/run.html", headers={"accept": "text/html"})
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/auth/login?next=")
    assert RUN in answer.headers["location"]
    assert "the page" not in answer.text


def test_a_login_without_a_role_sees_nothing(server, home):
    assert client(server, "").get(f"{ADDRESS}/run.html").status_code in (401, 403)
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

    nobody = client(server, None)
    nobody.cookies.set("_token", get_auth_manager().generate_jwt(SimpleAuthManagerUser(username="n", role=None)))
    assert nobody.get(f"{ADDRESS}/run.html").status_code == 403


@pytest.mark.parametrize(
    "path",
    [
        f"{ADDRESS}/../outside.html",
        f"{ADDRESS}/%2e%2e/outside.html",
        f"{ADDRESS}/..%2foutside.html",
        f"{ADDRESS}/%2e%2e%2f%2e%2e%2fsecrets/key.html",
        f"{ADDRESS}/reports/..%2f..%2f..%2f..%2fsecrets%2fkey.html",
        f"{ADDRESS}/reports/link.html",
        f"{ADDRESS}/.hidden.html",
        f"{ADDRESS}//etc/passwd",
        f"{ADDRESS}/%2fetc%2fpasswd",
        f"{ADDRESS}/run.yaml",
        f"{ADDRESS}/reports",
        "/warmstart/runs/../secrets/key.html",
        "/warmstart/runs/%2e%2e/secrets/key.html",
        "/warmstart/runs/..%2fsecrets/key.html",
        "/warmstart/runs/./outside.html",
        "/warmstart/runs/%2e/outside.html",
        "/warmstart/runs/.git/run.html",
        "/warmstart/runs/no-such-run/run.html",
        "/warmstart/runs/a%00b/run.html",
        f"{ADDRESS}/reports/%00.html",
    ],
)
def test_nothing_but_the_html_of_a_run_is_served(server, home, path):
    answer = client(server).get(path)
    assert answer.status_code in (307, 400, 404) or "<!doctype html>" in answer.text.lower()  # Airflow's own start page
    assert "SECRET" not in answer.text
    assert "root:" not in answer.text


@pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
def test_it_can_only_be_read(server, home, method):
    assert getattr(client(server, "admin"), method)(f"{ADDRESS}/run.html").status_code == 405
    assert (home / "records" / RUN / "run.html").read_text() == "<p>the page"


def test_an_open_run_is_drawn_as_it_stands(server, home):
    workspace = home / "runs" / "open-run"
    workspace.mkdir(parents=True)
    (workspace / "dvc.yaml").write_text((CHECKOUT / "dvc.yaml").read_text())
    run = {"run_id": "open-run", "targets": ["harbour"], "opened": "2026-01-01T00:00:00Z"}
    (workspace / "run.yaml").write_text(yaml.safe_dump(run))
    attempt = workspace / "run" / "attempts" / "snapshot" / "1.json"
    attempt.parent.mkdir(parents=True)
    attempt.write_text(json.dumps({"attempt": "1", "started": "2026-01-01T00:00:00Z"}))
    (home / "records" / "open-run" / "run").mkdir(parents=True)  # the attempt at opening it
    browser = client(server)
    assert "1 running" in browser.get("/warmstart/runs/open-run/run.html").text
    assert '<td class="">open</td>' in browser.get("/warmstart/runs/").text
    assert not (workspace / "run.html").exists()


def test_every_stage_has_the_link_and_so_do_mapped_ones(server, dag):
    from airflow.serialization.serialized_objects import DagSerialization

    read = DagSerialization.from_dict(DagSerialization.to_dict(dag))
    stages = [task for task in read.tasks if task.task_type == StageOperator.__name__]
    assert len(stages) > 8
    instance = SimpleNamespace(key=SimpleNamespace(run_id="manual__2026-01-01T00:00:00+00:00"))
    for task in read.tasks:
        assert "Run page" in task.extra_links, task.task_id
        assert task.get_extra_links(instance, "Run page") == f"{ADDRESS}/run.html"


def test_the_link_keeps_the_path_airflow_is_served_under(monkeypatch):
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://example.org/airflow/")
    key = SimpleNamespace(run_id="a:b")
    assert RunPageLink().get_link(None, ti_key=key) == "/airflow/warmstart/runs/a-b/run.html"


def test_the_nav_entry_is_one_airflow_accepts(server, home):
    answer = client(server, "admin").get("/api/v2/plugins")
    ours = next(plugin for plugin in answer.json()["plugins"] if plugin["name"] == "warmstart")
    assert [view["href"] for view in ours["external_views"]] == ["/warmstart/runs/"]
    assert ours["fastapi_apps"][0]["url_prefix"] == "/warmstart"


def test_loading_it_imports_no_machine_learning():
    code = "import sys, pipeline.orchestration.plugin; print(sorted({name.partition('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    for name in ("torch", "pandas", "polars", "numpy", "mlflow", "dvc", "feast"):
        assert f"'{name}'" not in loaded
