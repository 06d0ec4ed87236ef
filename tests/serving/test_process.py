"""The real process: no torch in it, nothing acknowledged is lost when it is killed, and it ends cleanly."""

from __future__ import annotations

import json
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psycopg
import pytest

from tests.serving.server_process import server_process


@pytest.fixture
def home(registry, folders):
    registry.add(folders(1), 1)
    registry.promote(1)
    return registry.home


def test_what_was_acknowledged_survives_kill_9(home, postgres):
    acknowledged: list[str] = []
    with server_process(home) as server:
        enough = threading.Event()

        def feed(caller: int) -> None:
            for number in range(10_000):
                name = f"{caller}-{number}"
                body = {"event_id": name, "user_id": f"u{caller}", "item_id": "t-1", "event": "click"}
                try:
                    answer = server.client.post("/v1/t/feedback", json=body)
                except httpx.TransportError:
                    return
                if answer.status_code == 202:
                    acknowledged.append(name)
                if len(acknowledged) > 100:
                    enough.set()

        with ThreadPoolExecutor(4) as callers:
            for caller in range(4):
                callers.submit(feed, caller)
            assert enough.wait(60)
            server.process.kill()
    with psycopg.connect(postgres) as connection:
        kept = {event for (event,) in connection.execute("select event_id from feedback")}
    assert len(acknowledged) > 100 and set(acknowledged) <= kept


def test_no_torch_bound_to_loopback_logs_as_json_and_ends_on_sigterm(home):
    with server_process(home) as server:
        item = {"item_id": "new", "text": "topic 1", "attributes": ["only:new"]}
        listed = server.client.post("/v1/t/items", json=item)
        assert listed.status_code == 201 and listed.json()["recommendable"], listed.text + server.log.read_text()
        asked = {"user_id": "anna", "session": ["t-1"], "k": 20, "filter": ["only:new"]}
        answer = server.client.post("/v1/t/recommend", json=asked).json()
        assert [found["item_id"] for found in answer["items"]] == ["new"]
        mapped = Path(f"/proc/{server.process.pid}/maps").read_text()
        assert "onnxruntime" in mapped
        assert not [line for line in mapped.splitlines() if "/torch/" in line or "mlflow" in line]
        listening = _listening(server.process.pid)
        assert listening == {"0100007F"}  # 127.0.0.1
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(30) in (0, -signal.SIGTERM)
    lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    assert {"champion loaded", "request"} <= {line["event"] for line in lines}
    assert "anna" not in server.log.read_text()


def _listening(pid: int) -> set[str]:
    inodes = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            name = str(descriptor.readlink())
        except OSError:
            continue
        if name.startswith("socket:["):
            inodes.add(name[8:-1])
    rows = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    return {row[1].split(":")[0] for row in rows if row[3] == "0A" and row[9] in inodes}
