"""Airflow's public API, as far as following a run needs it."""

from __future__ import annotations

import time
from typing import Any

import httpx

from pipeline.exit_codes import BadConfiguration, PassingFault

DAG = "retrain"


class AirflowApi:
    """A logged-in client of one Airflow.

    Args:
        address: base address of the API server.
        user, password: a login that may trigger runs.
        dag: the DAG whose runs are meant.

    Raises:
        BadConfiguration: the login is refused.
        PassingFault: the server does not answer.
    """

    def __init__(self, address: str, user: str, password: str, dag: str = DAG) -> None:
        self.dag = dag
        self._http = httpx.Client(base_url=address, timeout=30)
        answer = self._send("POST", "/auth/token", json={"username": user, "password": password})
        if answer.status_code >= 400:
            raise BadConfiguration(f"Airflow at {address} refuses user {user!r} ({answer.status_code})")
        self._http.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"

    def await_dag(self, seconds: float = 60) -> None:
        """Wait until the DAG has been read.

        Raises:
            BadConfiguration: it has an import error, which the message repeats.
            PassingFault: it was not read within `seconds`.
        """
        began = time.monotonic()
        while self._send("GET", f"/api/v2/dags/{self.dag}").status_code == 404:
            errors = self._send("GET", "/api/v2/importErrors").json().get("import_errors", [])
            if errors:
                raise BadConfiguration(f"{errors[0]['filename']} cannot be imported:\n{errors[0]['stack_trace']}")
            if time.monotonic() - began > seconds:
                raise PassingFault(
                    f"Airflow has not read the DAG {self.dag} after {seconds:.0f} s; see `warmstart doctor`"
                )
            time.sleep(0.5)

    def trigger(self, conf: dict[str, Any]) -> str:
        """Start a run; returns its id.

        Raises:
            BadConfiguration: the form refuses a value, with Airflow's own words.
        """
        answer = self._send("POST", f"/api/v2/dags/{self.dag}/dagRuns", json={"logical_date": None, "conf": conf})
        if answer.status_code >= 400:
            raise BadConfiguration(f"Airflow refused the run: {_detail(answer)}")
        return str(answer.json()["dag_run_id"])

    def run_state(self, run_id: str) -> str:
        """queued, running, success or failed."""
        return str(self._get(f"/api/v2/dags/{self.dag}/dagRuns/{run_id}")["state"])

    def tasks(self, run_id: str) -> list[dict[str, Any]]:
        """The run's task instances: task_id, map_index, state, duration, try_number, …"""
        found: list[dict[str, Any]] = self._get(
            f"/api/v2/dags/{self.dag}/dagRuns/{run_id}/taskInstances", params={"limit": 1000}
        )["task_instances"]
        return found

    def _get(self, path: str, **options: Any) -> Any:
        answer = self._send("GET", path, **options)
        if answer.status_code >= 400:
            raise PassingFault(f"Airflow answered {answer.status_code} to {path}: {_detail(answer)}")
        return answer.json()

    def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        for patience in (1, 2, 4, None):
            try:
                answer = self._http.request(method, path, **options)
                if answer.status_code < 500 or patience is None:
                    return answer
            except httpx.TransportError as fault:
                # a run goes on while its follower's connection does not
                if patience is None:
                    raise PassingFault(f"Airflow at {self._http.base_url} does not answer: {fault}") from fault
            time.sleep(patience)
        raise AssertionError("unreachable: the last round returns or raises")


def _detail(answer: httpx.Response) -> str:
    try:
        detail = answer.json().get("detail", answer.text)
    except ValueError:
        detail = answer.text
    return str(detail)[:500]
