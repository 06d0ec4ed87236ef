"""The calls of MLflow's REST API that stages, promotion, rollback and the reaper need, without importing MLflow.

`import mlflow` takes two CPU-seconds: more than a whole rollback may take, and more than many a stage computes.
Logging a model still goes through MLflow's client.
Source: https://mlflow.org/docs/latest/api_reference/rest-api.html
"""

from __future__ import annotations

import os
import time
from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from pipeline.exit_codes import BadConfiguration, PassingFault

Answer = dict[str, Any]
PAGE = 1000
# of MLflow's error codes
ABSENT, PRESENT = "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS"


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
        self._address = address.rstrip("/")
        self._http = httpx.Client(
            base_url=f"{self._address}/api/2.0/mlflow/",
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

    def create_experiment(self, name: str) -> str | None:
        """The id of a new experiment, None when there is one of that name."""
        answer = self._ask("POST", "experiments/create", {"name": name}, present=True)
        return str(answer["experiment_id"]) if answer else None

    def runs(self, experiment: str, query: str) -> list[Answer]:
        """Every run that MLflow's filter finds."""
        return list(self._pages("POST", "runs/search", "runs", {"experiment_ids": [experiment], "filter": query}))

    def create_run(self, experiment: str, name: str, tags: Mapping[str, str]) -> Answer:
        """Start a run; returns its `info`: run_id, artifact_uri, …"""
        words = {
            "experiment_id": experiment,
            "run_name": name,
            "start_time": int(time.time() * 1000),
            "tags": [{"key": key, "value": value} for key, value in tags.items()],
        }
        answer = self._ask("POST", "runs/create", words)
        assert answer is not None
        info: Answer = answer["run"]["info"]
        return info

    def log_batch(self, run: str, metrics: Sequence[Answer], params: Mapping[str, str]) -> None:
        """Write up to 1,000 metrics ({key, value, timestamp, step}) and 100 parameters of a run."""
        named = [{"key": key, "value": value} for key, value in params.items()]
        self._ask("POST", "runs/log-batch", {"run_id": run, "metrics": list(metrics), "params": named})

    def log_inputs(self, run: str, datasets: Sequence[Answer]) -> None:
        """Write which datasets ({dataset: {name, digest, …}, tags}) a run read."""
        self._ask("POST", "runs/log-inputs", {"run_id": run, "datasets": list(datasets)})

    def takes_artifacts_of(self, artifact_uri: str) -> bool:
        """Whether the server keeps these artifacts itself; else MLflow's client must bring them to a store."""
        return artifact_uri.startswith("mlflow-artifacts:/") and not urlsplit(artifact_uri).netloc

    def put_artifacts(self, artifact_uri: str, folder: Path, under: str) -> None:
        """Upload a folder's files to the artifacts at `artifact_uri`, under a path of theirs."""
        root = f"{self._address}/api/2.0/mlflow-artifacts/artifacts{urlsplit(artifact_uri).path}"
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            path = quote(f"{under}/{file.relative_to(folder).as_posix()}")
            with file.open("rb") as content:
                self._send("PUT", f"{root}/{path}", content=content)

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

    def _ask(self, method: str, path: str, words: Answer, absent: bool = False, present: bool = False) -> Answer | None:
        """One call; None instead of a fault when what it names is not there (is there already) and that may be."""
        tolerated = {code for code, may in ((ABSENT, absent), (PRESENT, present)) if may}
        content = {"params": words} if method == "GET" else {"json": words}
        answer = self._send(method, path, tolerated, **content)
        return answer.json() if answer is not None else None

    def _send(
        self, method: str, path: str, tolerated: Container[str] = frozenset(), **content: Any
    ) -> httpx.Response | None:
        """One request; None when it fails with an error code that is tolerated."""
        try:
            answer = self._http.request(method, path, **content)
        except httpx.TransportError as fault:
            raise PassingFault(
                f"MLflow at {self._address} does not answer ({fault}): `warmstart status` shows the servers"
            ) from fault
        if answer.status_code < 400:
            return answer
        code, message = _error(answer)
        # an alias that is not set is an invalid parameter to MLflow
        if code == "INVALID_PARAMETER_VALUE" and path.endswith("/alias") and "not found" in message:
            code = ABSENT
        if code in tolerated:
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
