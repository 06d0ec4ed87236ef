"""Deliver OpenLineage events: to a file of the day under `$WARMSTART_HOME/openlineage/`, or to any receiver.

The client's own configuration names a receiver: `OPENLINEAGE_URL`, `OPENLINEAGE__TRANSPORT__…`, an `openlineage.yml`
that `OPENLINEAGE_CONFIG` points to; `OPENLINEAGE_DISABLED=true` turns events off. A receiver that is away costs
seconds, not the stage: what it did not take stands in the file, and the log says so.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.settings import CHECKOUT

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 2.0
CLOSING_SECONDS = 10.0  # for all events of a run that came from the cache
POLL_SECONDS = 0.25
CODE_URL_VARIABLE = "WARMSTART_CODE_URL"
_started: set[str] = set()  # runIds whose START this process has delivered


def emit(manifest: Mapping[str, Any], home: Path) -> None:
    """Deliver the events of one attempt. Never raises, and takes no longer than `PATIENCE_SECONDS` and an import.

    Args:
        manifest: of an attempt that has ended.
        home: `$WARMSTART_HOME`.
    """
    _guarded(lambda: manifest, None, home, PATIENCE_SECONDS)


@contextmanager
def started_when(began: Callable[[], bool], describe: Callable[[], Mapping[str, Any]], home: Path) -> Iterator[None]:
    """Emit START while the body runs, as soon as `began` says so: a training of hours is seen from its first minute.

    In a thread, beside the stage's own process, so that the stage waits for neither the client's import nor a receiver.

    Args:
        began: the stage is executed (and not restored).
        describe: the manifest so far.
    """
    over = threading.Event()

    def watch() -> None:
        while not over.wait(POLL_SECONDS):
            if began():
                _guarded(describe, None, home, PATIENCE_SECONDS, only_start=True)
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join(PATIENCE_SECONDS)


def emit_run(run: Mapping[str, Any], manifests: Iterable[Mapping[str, Any]], home: Path) -> None:
    """At close: the events of the DAG run, and of its attempts that the cache served, in one go. Never raises.

    A stage that is restored takes half a second; importing the client for each of them would double that.

    Args:
        run: run.yaml of the record.
        manifests: of all attempts of the run; the events of the others are delivered already.
    """
    _guarded(lambda: list(manifests), run, home, CLOSING_SECONDS)


def events_path(home: Path) -> Path:
    """Today's file, one event a line."""
    return home / "openlineage" / f"{datetime.now(UTC):%Y-%m-%d}.jsonl"


def _guarded(
    describe: Callable[[], Mapping[str, Any] | list[Mapping[str, Any]]],
    run: Mapping[str, Any] | None,
    home: Path,
    seconds: float,
    only_start: bool = False,
) -> None:
    if os.environ.get("OPENLINEAGE_DISABLED", "").strip().lower() == "true":
        return
    try:
        found = describe()
        manifests = found if isinstance(found, list) else [found]
        _deliver(_events(manifests, run, only_start), home, seconds)
    except Exception as fault:
        log.warning("OpenLineage events were not written: %s", fault)
        log.debug("", exc_info=True)


def _events(manifests: list[Mapping[str, Any]], run: Mapping[str, Any] | None, only_start: bool) -> list[Any]:
    from pipeline.openlineage.events import dag_of, events_of, events_of_run

    code = code_url()
    events = []
    if run is not None and manifests:
        events = events_of_run(run, dag_of(manifests[0]))
        manifests = [manifest for manifest in manifests if manifest["source"] == "cached"]
    for manifest in manifests:
        start, end = events_of(manifest, code)
        if start.run.runId not in _started:
            events.append(start)
        if only_start:
            _started.add(start.run.runId)
        else:
            events.append(end)
    return events


def _deliver(events: list[Any], home: Path, seconds: float) -> None:
    left = _send(events, seconds) if events and receiver_is_configured() else events
    if left:
        _append(left, events_path(home))


def receiver_is_configured() -> bool:
    """Whether events go to a server, by the client's own configuration."""
    if any(name == "OPENLINEAGE_URL" or name.startswith("OPENLINEAGE__TRANSPORT") for name in os.environ):
        return True
    named = os.environ.get("OPENLINEAGE_CONFIG")
    places = [Path(named)] if named else []
    places += [Path("openlineage.yml"), Path("~/.openlineage/openlineage.yml").expanduser()]
    return any(place.is_file() for place in places)


def _send(events: list[Any], seconds: float) -> list[Any]:
    """Send in a thread that is not waited for longer than `seconds`; returns the events that were not taken."""
    taken: list[Any] = []
    faults: list[Exception] = []

    def work() -> None:
        try:
            from openlineage.client import OpenLineageClient

            client = OpenLineageClient()
            for event in events:
                client.emit(event)
                taken.append(event)
            client.close(seconds)
        except Exception as fault:
            faults.append(fault)

    # the client tells of every retry in a warning of its own, for a minute
    for noisy in ("openlineage.client", "urllib3.connectionpool"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    sender = threading.Thread(target=work, daemon=True)
    sender.start()
    sender.join(seconds)
    left = events[len(taken) :]
    if left:
        why = faults[0] if faults else f"no answer within {seconds:.0f} s"
        log.warning("OpenLineage's receiver did not take %d event(s), kept in a file instead: %s", len(left), why)
    return left


def _append(events: list[Any], path: Path) -> None:
    from openlineage.client.serde import Serde

    path.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(Serde.to_json(event) + "\n" for event in events).encode()
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # stages of several runs write here; a line is one event
        file.write(lines)


def code_url() -> str:
    """URL of the checkout's `origin` without a login in it; the checkout's own place if it has none.

    A stage's container has neither git nor the checkout: it is told.
    """
    if told := os.environ.get(CODE_URL_VARIABLE):
        return told
    checkout = Path(os.environ.get("WARMSTART_CHECKOUT") or CHECKOUT)
    words = ["git", "-C", str(checkout), "config", "--get", "remote.origin.url"]
    found = subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()
    return re.sub(r"(?<=://)[^/@]*@", "", found) or checkout.as_uri()
