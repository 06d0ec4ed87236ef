"""The dozen calls of MLflow's REST API that promotion, rollback and the reaper need, without importing MLflow.

`import mlflow` takes two seconds, more than a whole rollback may. Logging a model still goes through MLflow's client.
Source: https://mlflow.org/docs/latest/api_reference/rest-api.html
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx

from pipeline.exit_codes import BadConfiguration, PassingFault

Answer = dict[str, Any]
PAGE = 1000


class MlflowRest:
    """A client of the tracking server at `address`.

    Raises:
        BadConfiguration: the address is not http(s), or the server refuses the login.
        PassingFault: the server does not answer, or answers 5xx.
    """

    def __init__(self, address: str, seconds: float = 30) -> None:
        if not address.startswith(("http://", "https://")):
            raise BadConfiguration(
                f"MLFLOW_TRACKING_URI is {address}; the registry is used through MLflow's server: give its http address"
            )
        # a proxy of the environment is for the outside world only
        loopback = urlsplit(address).hostname in {"127.0.0.1", "localhost", "::1"}
        token = os.environ.get("MLFLOW_TRACKING_TOKEN")
        user, password = (os.environ.get(f"MLFLOW_TRACKING_{name}") for name in ("USERNAME", "PASSWORD"))
        self._address = address
        self._http = httpx.Client(
            base_url=f"{address.rstrip('/')}/api/2.0/mlflow/",
            timeout=seconds,
            trust_env=not loopback,
            headers={"Authorization": f"Bearer {token}"} if token else None,
            auth=(user, password) if user and password and not token else None,
        )

    def models(self, prefix: str) -> list[str]:
        """Names of the registered models that start with `prefix`, sorted."""
        found = self._pages(
            "GET", "registered-models/search", "registered_models", {"filter": f"name LIKE '{prefix}%'"}
        )
        return sorted(str(model["name"]) for model in found)

    def versions(self, name: str, tags: Mapping[str, str] | None = None) -> list[Answer]:
        """Every version of a model that has these tags, lowest number first; none when there is no such model."""
        query = " and ".join([f"name = '{name}'", *(f"tags.`{k}` = '{_quoted(v)}'" for k, v in (tags or {}).items())])
        found = list(self._pages("GET", "model-versions/search", "model_versions", {"filter": query}))
        return sorted(found, key=lambda version: int(version["version"]))

    def version(self, name: str, number: int) -> Answer | None:
        """One version, None when it is not there (never was, or was deleted)."""
        answer = self._ask("GET", "model-versions/get", {"name": name, "version": str(number)}, absent=True)
        return answer["model_version"] if answer else None

    def version_by_alias(self, name: str, alias: str) -> Answer | None:
        """The version an alias points to, None when it points nowhere."""
        answer = self._ask("GET", "registered-models/alias", {"name": name, "alias": alias}, absent=True)
        return answer["model_version"] if answer else None

    def set_alias(self, name: str, alias: str, number: int) -> None:
        """Move an alias."""
        self._ask("POST", "registered-models/alias", {"name": name, "alias": alias, "version": str(number)})

    def set_version_tag(self, name: str, number: int, key: str, value: str) -> None:
        """Write a tag of a version."""
        self._ask("POST", "model-versions/set-tag", {"name": name, "version": str(number), "key": key, "value": value})

    def delete_version(self, name: str, number: int) -> None:
        """Take a version away."""
        self._ask("DELETE", "model-versions/delete", {"name": name, "version": str(number)}, absent=True)

    def experiment(self, name: str) -> str | None:
        """The id of an experiment, None when there is none of that name."""
        answer = self._ask("GET", "experiments/get-by-name", {"experiment_name": name}, absent=True)
        return str(answer["experiment"]["experiment_id"]) if answer else None

    def runs(self, experiment: str, query: str) -> list[Answer]:
        """Every run that MLflow's filter finds."""
        return list(self._pages("POST", "runs/search", "runs", {"experiment_ids": [experiment], "filter": query}))

    def end_run(self, run: str, status: str, ended_ms: int) -> None:
        """Give a run its end: FINISHED, FAILED or KILLED."""
        self._ask("POST", "runs/update", {"run_id": run, "status": status, "end_time": ended_ms})

    def set_run_tag(self, run: str, key: str, value: str) -> None:
        """Write a tag of a run."""
        self._ask("POST", "runs/set-tag", {"run_id": run, "key": key, "value": value})

    def _pages(self, method: str, path: str, key: str, words: Answer) -> Iterator[Answer]:
        page = ""
        while True:
            asked = words | {"max_results": PAGE} | ({"page_token": page} if page else {})
            answer = self._ask(method, path, asked, absent=True) or {}
            yield from answer.get(key, [])
            if not (page := answer.get("next_page_token", "")):
                return

    def _ask(self, method: str, path: str, words: Answer, absent: bool = False) -> Answer | None:
        """One call; None instead of a fault when what it names is not there and that may be."""
        get = method == "GET"
        try:
            answer = self._http.request(method, path, params=words if get else None, json=None if get else words)
        except httpx.TransportError as fault:
            raise PassingFault(
                f"MLflow at {self._address} does not answer ({fault}): `warmstart status` shows the servers"
            ) from fault
        if answer.status_code < 400:
            found: Answer = answer.json()
            return found
        code, message = _error(answer)
        # an alias that is not set is an invalid parameter to MLflow
        no_alias = code == "INVALID_PARAMETER_VALUE" and path.endswith("/alias") and "not found" in message
        if absent and (code == "RESOURCE_DOES_NOT_EXIST" or no_alias):
            return None
        sentence = f"MLflow at {self._address} answered {answer.status_code} to {path}: {message}"
        if answer.status_code >= 500 or answer.status_code == 429:
            raise PassingFault(sentence)
        raise BadConfiguration(sentence)


def _error(answer: httpx.Response) -> tuple[str, str]:
    try:
        body = answer.json()
    except ValueError:
        return "", answer.text[:300]
    return str(body.get("error_code", "")), str(body.get("message", ""))[:300]


def _quoted(value: str) -> str:
    return value.replace("'", "''")
