"""The service as its caller sees it: a process of this simulation's own, or one that runs somewhere."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from pipeline.exit_codes import BadConfiguration, PassingFault
from pipeline.serving.access import first_key
from pipeline.settings import Settings

START_SECONDS = 120.0
SWAP_SECONDS = 60.0
PR_SET_PDEATHSIG = 1


class Client:
    """A running service."""

    def __init__(self, address: str, key: str) -> None:
        self.address = address
        self._http = httpx.Client(base_url=address, headers={"X-API-Key": key}, timeout=30)

    def ready(self, targets: Sequence[str]) -> str:
        """Empty when every target has a champion that answers, else what is missing."""
        try:
            answer = self._http.get("/readyz")
            told = answer.json()
            missing = [target for target in targets if target not in told["targets"]]
        except (httpx.TransportError, ValueError, KeyError) as fault:
            return f"GET {self.address}/readyz: {fault or type(fault).__name__}"
        why = "; ".join(told["problems"]) or f"{answer.status_code}, {told['status']}"
        return f"{', '.join(missing)} not served ({why})" if missing else ""

    def recommend(self, target: str, user_id: str, attributes: Sequence[str], k: int) -> dict[str, Any]:
        """The answer."""
        asked = {"user_id": user_id, "k": k, "context": {"attributes": list(attributes)}}
        return self._post(f"/v1/{target}/recommend", asked)

    def feedback(self, target: str, events: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Events that are on the disk when this returns."""
        return self._post(f"/v1/{target}/feedback/batch", {"events": list(events)})

    def list_item(self, target: str, item: dict[str, Any]) -> dict[str, Any]:
        """A new item."""
        return self._post(f"/v1/{target}/items", item)

    def versions(self) -> dict[str, int]:
        """Version that answers, by target."""
        return {model["target"]: int(model["version"]) for model in self._answer("GET", "/v1/models")["models"]}

    def wait_for(self, versions: dict[str, int]) -> None:
        """Until these versions answer.

        Raises:
            PassingFault: they do not within `SWAP_SECONDS`.
        """
        end = time.monotonic() + SWAP_SECONDS
        while any(self.versions().get(target) != version for target, version in versions.items()):
            if time.monotonic() > end:
                raise PassingFault(
                    f"{self.address} serves {self.versions()} and not the champions {versions} after"
                    f" {SWAP_SECONDS:.0f} s; GET /readyz says why."
                )
            time.sleep(0.1)

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        return self._answer("POST", path, json=body)

    def _answer(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        try:
            answer = self._http.request(method, path, **options)
        except httpx.TransportError as fault:
            raise PassingFault(f"the service at {self.address} does not answer: {fault}.") from fault
        if answer.status_code == 503:
            raise PassingFault(f"{method} {self.address}{path}: {_told(answer)}.")
        if answer.status_code >= 400:
            raise BadConfiguration(
                f"{method} {self.address}{path} was refused ({answer.status_code}): {_told(answer)}."
            )
        found: dict[str, Any] = answer.json()
        return found


@contextmanager
def serving(settings: Settings, targets: Sequence[str], address: str, log: Path) -> Iterator[Client]:
    """The service at `address`, or without one a process that ends with the `with`.

    Raises:
        PassingFault: it is not ready.
    """
    if address:
        client = Client(address.rstrip("/"), first_key(settings.home))
        if missing := client.ready(targets):
            raise PassingFault(f"the service at {address} is not ready: {missing}.")
        yield client
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = [word for target in targets for word in ("--target", target)]
    command = [sys.executable, "-m", "pipeline", "serve", "--port", str(port), "--simulated-clock", *words]
    with log.open("a") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, env=dict(os.environ),
            preexec_fn=_die_with_parent if sys.platform == "linux" else None,
        )  # fmt: skip
    client = Client(f"http://127.0.0.1:{port}", first_key(settings.home))
    try:
        end = time.monotonic() + START_SECONDS
        while missing := client.ready(targets):
            if process.poll() is not None or time.monotonic() > end:
                raise PassingFault(f"the service did not become ready: {missing}; its log is {log}.")
            time.sleep(0.1)
        yield client
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)  # a simulation that is killed leaves no service behind


def _told(answer: httpx.Response) -> str:
    try:
        return "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in answer.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return answer.text[:300]
