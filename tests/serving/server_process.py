"""`warmstart serve` as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from pipeline.serving.access import first_key
from tests.stack_fixture import free_ports


@dataclass
class Server:
    """A running service.

    Attributes:
        client: with the key.
        process: its process.
        log: its lines.
    """

    client: httpx.Client
    process: subprocess.Popen
    log: Path


@contextmanager
def server_process(home: Path, *arguments: str) -> Iterator[Server]:
    """Start one with the environment of this process, wait until it is ready, kill it at the end."""
    [port] = free_ports(1)
    log = home / f"serve-{port}.log"
    command = [sys.executable, "-m", "pipeline", "serve", "--port", str(port), *arguments]
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=dict(os.environ))
    client = httpx.Client(base_url=f"http://127.0.0.1:{port}", headers={"X-API-Key": first_key(home)}, timeout=30)
    try:
        began = time.monotonic()
        while not _ready(client):
            assert process.poll() is None and time.monotonic() - began < 120, log.read_text()
            time.sleep(0.1)
        yield Server(client, process, log)
    finally:
        client.close()
        process.kill()
        process.wait()


def _ready(client: httpx.Client) -> bool:
    try:
        return client.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False
