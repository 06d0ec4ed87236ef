"""`make bench-serving`: `warmstart serve` under load, beside `mlflow models serve` of the same model.

A process of the service on a real PostgreSQL (fsync on) and a real MLflow; a model of 12,000 items with drawn weights
(width 64, one layer); 2,000 users with 50 items of history each in Feast's online store, asked for at random, ten items
wanted. wrk (`apt-get install wrk`) asks from the same machine and takes its share of the cores.

* `p99_ms_at_200`, `p50_ms_at_200`: of 200 requests a second in a Poisson stream, after five seconds of it;
  `read_at_200` is the share of these requests that had to read their user from the stores, `late_at_200` the share
  that wrk could not send in time (its latencies flatter beyond a hundredth: the machine has too much else to do);
* `max_rps`: answers a second to 64 connections that ask again at once, `p99_ms_at_max` is what that costs; most of
  these users are in the service's memory by then (`read_at_max`), and a service that has just started answers fewer;
* `vs_mlflow_serve`: `max_rps` by that of `mlflow models serve --env-manager local` with the version's own ONNX model
  and the same 64 connections. MLflow is told history and profile and looks up nothing, but answers with every output
  of the graph, a score for each of 12,000 items among them: `vs_mlflow_serve_lean` is the same without that output;
* `item_listed_s`, `item_listed_worst_s`: from a new item's description (text through the language model) to the first
  answer that recommends it, one after the other, nothing else asked; median and worst of 50;
* `memory_mb`: the highest resident memory of the service's process, with everything above and the promotions behind it;
* `errors_across_20_promotions`: answers that failed, took over 10 s or were not the model's, at 200 requests a second,
  while champions are promoted (each downloaded from MLflow) and rolled back in turn; `swap_s` is the median time
  from the command to the moment that the service names the version in `/v1/models`;
* `acknowledged_feedback_lost`: events that were answered with 202 and are not in the table after `kill -9`, of 50
  kills at a random moment with four callers sending.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = os.environ["POLARS_MAX_THREADS"] = "1"

import httpx
import numpy as np
import polars as pl
import psutil
import psycopg
from figures import Figure, write_figures
from load import Load, Measured

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pipeline.compression.served_model import ServedModel
from pipeline.data.pseudonyms import PUBLIC_KEY, pseudonym
from pipeline.features.encoders import MiniLM
from pipeline.features.online_store import open_online_store, push
from pipeline.lineage.database import index_url, prepare
from pipeline.registry.promotion import roll_back
from pipeline.registry.registration import as_mlflow_model
from pipeline.serving.access import first_key
from pipeline.settings import settings
from tests.registry import killed
from tests.registry_fixture import Registry, running_registry
from tests.served_fixture import PROJECT, TARGET, served_folder
from tests.serving.server_process import Server, server_process
from tests.stack_fixture import free_ports

ITEMS, HISTORY, USERS, WIDTH, K = 12_000, 50, 2_000, 64, 10
RATE, CONNECTIONS = 200, 64
FROM_MODEL = '"source":"model"'  # in every answer to a user with a history
PATIENCE_S = 120.0
FEEDERS = 4
LISTED = 50


def main() -> None:
    """Run the benchmark and write its figures."""
    words = argparse.ArgumentParser(description="The service under load.")
    words.add_argument("--seconds", type=int, default=30, help="of each measurement")
    words.add_argument("--promotions", type=int, default=20)
    words.add_argument("--kills", type=int, default=50)
    asked = words.parse_args()
    kept = settings()
    with tempfile.TemporaryDirectory(prefix="warmstart-bench-serving-") as folder:
        scratch = Path(folder)
        with running_registry(scratch / "servers") as registry:
            durable()
            figures = measure(registry, scratch, asked)
    write_figures("serving", figures, kept)


def measure(registry: Registry, scratch: Path, asked: argparse.Namespace) -> list[Figure]:
    """Every figure, in the order of the module's first lines."""
    load = os.getloadavg()[0]
    served = served_folder(scratch, 1, items=ITEMS, width=WIDTH, encoder=MiniLM())
    histories = drawn_histories()
    fill_online_store(scratch / "features", histories)
    bodies, plain = write_bodies(scratch, served, histories)
    decide(killed.register(str(served), TARGET, "run-1"), "run-1")
    seconds = asked.seconds
    with server_process(registry.home) as server:
        key, url = first_key(registry.home), str(server.client.base_url.join(f"/v1/{TARGET}/recommend"))
        Load(url, bodies, CONNECTIONS, RATE, FROM_MODEL, key, seconds=5).measured()
        before = lookups(server)
        steady = told(Load(url, bodies, CONNECTIONS, RATE, FROM_MODEL, key, seconds).measured(), f"{RATE} a second")
        between = lookups(server)
        most = told(Load(url, bodies, CONNECTIONS, 0, FROM_MODEL, key, seconds).measured(), "as many as it answers")
        after = lookups(server)
        listed = [until_recommended(server, f"new-{number}") for number in range(LISTED)]
        print(
            f"a new item is recommended after {statistics.median(listed):.3f} s, at worst {max(listed):.3f}", flush=True
        )
        broken, swaps = promoted_under_load(registry, server, scratch, Load(url, bodies, CONNECTIONS, RATE, FROM_MODEL,
                                            key), asked.promotions)  # fmt: skip
        memory = peak_mb(server.process.pid)
    rivals = []
    for name, lean in (("mlflow", False), ("mlflow, lean", True)):
        with mlflow_serving(served, scratch / name.replace(", ", "-"), lean) as address:
            rivals.append(told(Load(address, plain, CONNECTIONS, seconds=seconds).measured(), name))
    lost, acknowledged = lost_to_kills(registry.home, asked.kills)
    return [
        (f"p99_ms_at_{RATE}", steady.p99_ms, "≤ 15 ms"),
        (f"p50_ms_at_{RATE}", steady.p50_ms, "ms"),
        (f"read_at_{RATE}", (between - before) / steady.requests, "share"),
        (f"errors_at_{RATE}", steady.errors + steady.wrong, "answers"),
        (f"late_at_{RATE}", steady.late / steady.requests, "share"),
        ("max_rps", most.rps, "≥ 600 a second"),
        ("p99_ms_at_max", most.p99_ms, "ms"),
        ("read_at_max", (after - between) / most.requests, "share"),
        ("errors_at_max", most.errors + most.wrong, "answers"),
        ("vs_mlflow_serve", most.rps / rivals[0].rps, "≥ 5 x"),
        ("vs_mlflow_serve_lean", most.rps / rivals[1].rps, "x"),
        ("mlflow_rps", rivals[0].rps, "a second"),
        ("mlflow_rps_lean", rivals[1].rps, "a second"),
        ("item_listed_s", statistics.median(listed), "s"),
        ("item_listed_worst_s", max(listed), "≤ 1 s"),
        ("memory_mb", memory, "≤ 700 MB"),
        (f"errors_across_{asked.promotions}_promotions", broken.errors + broken.wrong, f"of {broken.requests}"),
        ("p99_ms_across_promotions", broken.p99_ms, "ms"),
        ("swap_s", statistics.median(swaps) if swaps else float("nan"), "s"),
        ("acknowledged_feedback_lost", lost, f"of {acknowledged} events, {asked.kills} kills"),
        ("load_before", load, "processes, 1 minute"),
    ]


def told(measured: Measured, what: str) -> Measured:
    """Print it, since the whole takes minutes."""
    print(f"{what}: {measured.rps:.0f} a second, {measured}", flush=True)
    return measured


def durable() -> None:
    """A PostgreSQL as it comes: the tests' own does not wait for its disk."""
    prepare(index_url())
    with psycopg.connect(index_url(), autocommit=True) as connection:
        connection.execute("alter system reset fsync")
        connection.execute("select pg_reload_conf()")


# who asks for what


def drawn_histories() -> np.ndarray:
    """int64 [USERS, HISTORY] rows of the catalogue, no item twice."""
    draws = np.random.default_rng(0)
    return np.stack([1 + draws.permutation(ITEMS)[:HISTORY] for _ in range(USERS)])


def fill_online_store(features: Path, histories: np.ndarray) -> None:
    """What a night pushes of these users: attributes, footprint, activity, history."""
    features.mkdir()
    now = datetime.now(UTC).replace(microsecond=0)
    newest = int(now.timestamp()) * 1_000_000
    oldest = newest - HISTORY * 3_600_000_000
    times = list(range(oldest, newest, 3_600_000_000))
    users = [{"user_id": pseudonym(f"u{n}", PUBLIC_KEY)} for n in range(USERS)]
    span = {"n_interactions": HISTORY, "first_time": oldest, "last_time": newest}
    tables = {
        "user_profile": [user | {"attributes": [f"city:{n % 3}"]} for n, user in enumerate(users)],
        "user_footprint": [user | span | {"n_domains": 1} for user in users],
        "user_activity": [user | span | {"domain": TARGET, "mean_value": 1.0} for user in users],
        "user_history": [
            user | {"domain": TARGET, "item_ids": [f"{TARGET}-{item}" for item in items], "times": times}
            for user, items in zip(users, histories.tolist(), strict=True)
        ],
        "item_statistics": [
            {"item_id": f"{TARGET}-1", "domain": TARGET, "n_interactions": 1, "recent_interactions": 1.0,
             "mean_value": 1.0, "last_time": newest}
        ],
    }  # fmt: skip
    clocks = {"event_timestamp": now, "created_timestamp": now}
    frames = {view: pl.DataFrame([row | clocks for row in rows]) for view, rows in tables.items()}
    for view, frame in frames.items():
        frame.write_parquet(features / f"{view}.parquet")
    store = open_online_store(settings(), features, PROJECT)
    for view, frame in frames.items():
        push(store, view, frame, 1000)


def write_bodies(scratch: Path, served: Path, histories: np.ndarray) -> tuple[Path, Path]:
    """The same users in the service's words and in those of MLflow's scoring server, a line each."""
    ours, theirs = scratch / "ours.jsonl", scratch / "theirs.jsonl"
    ours.write_text("".join(json.dumps({"user_id": f"u{n}", "k": K}) + "\n" for n in range(USERS)))
    profile = [0.5] * len(ServedModel(served).profile_features)
    with theirs.open("w") as file:
        for items in histories.tolist():
            inputs = {"history": [items], "profile": [profile], "profile_attributes": [[1]], "seen": [items]}
            file.write(json.dumps({"inputs": inputs}) + "\n")
    return ours, theirs


# the servers


@contextmanager
def mlflow_serving(served: Path, folder: Path, lean: bool) -> Iterator[str]:
    """`mlflow models serve` of what `register` makes of a served folder; yields the address to ask.

    Args:
        lean: without `all_scores`, a number for each item of the catalogue.
    """
    model = as_mlflow_model(served, folder)
    if lean:
        import onnx

        graph = onnx.load(model / "model.onnx")
        del graph.graph.output[2:]
        onnx.save(graph, model / "model.onnx")
    [port] = free_ports(1)
    scripts = Path(sys.executable).parent
    command = [str(scripts / "mlflow"), "models", "serve", "-m", str(model), "--env-manager", "local", "-p", str(port)]
    # it starts uvicorn by its name
    environment = os.environ | {"PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"}
    log = folder.with_suffix(".log")
    with log.open("w") as output:
        process = psutil.Popen(command, stdout=output, stderr=output, env=environment)
    address = f"http://127.0.0.1:{port}"
    try:
        began = time.monotonic()
        while not answers(f"{address}/ping"):
            if process.poll() is not None or time.monotonic() - began > PATIENCE_S:
                raise SystemExit(f"mlflow models serve does not answer:\n{log.read_text()}")
            time.sleep(0.2)
        yield f"{address}/invocations"
    finally:
        for one in [*process.children(recursive=True), process]:
            one.kill()
        process.wait(30)


def answers(url: str) -> bool:
    """Does a GET get a 200?"""
    try:
        return httpx.get(url).status_code == 200
    except httpx.TransportError:
        return False


def lookups(server: Server) -> int:
    """Users that the service has read from the stores so far."""
    found = re.search(r'^warmstart_user_lookups_total\{where="store"\} (\S+)', server.client.get("/metrics").text, re.M)
    return int(float(found.group(1))) if found else 0


def peak_mb(pid: int) -> float:
    """The highest resident memory of a process, in 10⁶ bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"^VmHWM:\s+(\d+) kB", status, re.M)
    if found is None:
        raise SystemExit("this machine's /proc does not tell a process's peak memory (VmHWM)")
    return int(found.group(1)) * 1024 / 1e6


# new items


def until_recommended(server: Server, item: str) -> float:
    """Seconds from the description of a new item to the first answer that has it."""
    began = time.monotonic()
    described = {"item_id": item, "text": f"A garden chair of oak, folding, weatherproof: {item}", "attributes": [item]}
    server.client.post(f"/v1/{TARGET}/items", json=described).raise_for_status()
    wanted = {"session": [f"{TARGET}-1"], "k": K, "filter": [item]}
    while True:
        answer = server.client.post(f"/v1/{TARGET}/recommend", json=wanted).raise_for_status().json()
        if [one["item_id"] for one in answer["items"]] == [item]:
            return time.monotonic() - began
        if time.monotonic() - began > PATIENCE_S:
            raise SystemExit(f"{item} is not recommended: {answer}")


# promotions


def decide(version: int, run_id: str) -> None:
    """Promote, whatever the version is worth."""
    killed.decide(TARGET, version, run_id)


def promoted_under_load(
    registry: Registry, server: Server, scratch: Path, load: Load, promotions: int
) -> tuple[Measured, list[float]]:
    """A new version, back to the one before, the next new version, …; what callers saw, and seconds of each change."""
    swaps = []
    other = served_folder(scratch, 2, items=ITEMS, width=WIDTH, encoder=MiniLM())
    for number in range(promotions):
        if number % 2 == 0:
            run_id = f"run-{number + 2}"
            version = killed.register(str(variant(other, scratch, number)), TARGET, run_id)
            began = time.monotonic()
            decide(version, run_id)
        else:
            began = time.monotonic()
            version = roll_back(registry.rest, TARGET, "user bench", "bench").to_version
        while server.client.get("/v1/models").json()["models"][0]["version"] != version:
            if time.monotonic() - began > PATIENCE_S:
                raise SystemExit(f"version {version} does not come:\n{server.client.get('/readyz').text}")
            time.sleep(0.02)
        swaps.append(time.monotonic() - began)
    return told(load.end(), f"across {promotions} promotions"), swaps


def variant(served: Path, scratch: Path, number: int) -> Path:
    """The same model with files that no version has yet: it has to be downloaded."""
    copy = scratch / f"variant-{number}"
    shutil.copytree(served, copy)
    about = json.loads((copy / "model.json").read_text())
    (copy / "model.json").write_text(json.dumps(about | {"variant": number}))
    return copy


# feedback


def lost_to_kills(home: Path, kills: int) -> tuple[int, int]:
    """Events acknowledged and gone, and all that were acknowledged."""
    acknowledged: list[str] = []
    moments = random.Random(0)
    for number in range(kills):
        with server_process(home) as server, ThreadPoolExecutor(FEEDERS) as feeders:
            first = threading.Event()
            for feeder in range(FEEDERS):
                feeders.submit(feed, server, f"{number}-{feeder}", acknowledged, first)
            if not first.wait(PATIENCE_S):
                raise SystemExit(f"no feedback was taken:\n{server.log.read_text()[-2000:]}")
            time.sleep(moments.uniform(0.0, 0.5))
            server.process.kill()
        print(f"kill {number + 1}: {len(acknowledged)} events acknowledged so far", flush=True)
    with psycopg.connect(index_url()) as connection:
        kept = {event for (event,) in connection.execute("select event_id from feedback")}
    return len(set(acknowledged) - kept), len(acknowledged)


def feed(server: Server, name: str, acknowledged: list[str], first: threading.Event) -> None:
    """Send events until the server is gone; keep the ids of those that it has taken."""
    number = 0
    while True:
        event = f"{name}-{number}"
        body = {"event_id": event, "user_id": name, "item_id": f"{TARGET}-1", "event": "click"}
        try:
            status = server.client.post(f"/v1/{TARGET}/feedback", json=body).status_code
        except httpx.TransportError:
            return
        if status == 202:
            acknowledged.append(event)
            first.set()
        number += 1


if __name__ == "__main__":
    main()
