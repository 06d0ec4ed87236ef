"""OpenLineage events of a whole run: they validate and arrive, tell one graph, and no receiver holds a stage up."""

from __future__ import annotations

import importlib
import json
import logging
import multiprocessing
import os
import socket
import threading
import time
import uuid
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from pipeline.openlineage import delivery
from pipeline.openlineage.delivery import POLL_SECONDS, emit, emit_run, events_path, started_when
from pipeline.runs.manifest import read_every_attempt
from pipeline.runs.workspace import run_record
from tests.run_record import make_record

COMPLAINT = "metro/interactions: 4.2 % of the rows have no user"


@pytest.fixture(autouse=True)
def unconfigured(monkeypatch, tmp_path):
    """No configuration of the machine's counts."""
    for name in [name for name in os.environ if name.startswith("OPENLINEAGE")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(delivery, "_started", set())
    yield
    # the client spells OPENLINEAGE_URL out in variables of its own
    for name in [name for name in os.environ if name.startswith("OPENLINEAGE")]:
        os.environ.pop(name)


def emit_record(record: Path, home: Path) -> list[dict[str, Any]]:
    """What a run emits: each executed or failed attempt when it ends, the rest when the run is closed."""
    attempts = read_every_attempt(record)
    for manifest in attempts:
        if manifest["source"] != "cached":
            emit(manifest, home)
    emit_run(run_record(record), attempts, home)
    path = events_path(home)
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def events(tmp_path):
    """Of a run with stages from the cache."""
    return emit_record(make_record(tmp_path / "r", cached=("snapshot", "embed")), tmp_path / "home")


@pytest.fixture
def failed_events(tmp_path):
    """Of a run that its data stopped."""
    record = make_record(tmp_path / "f", failed="validate", code=65, message=COMPLAINT)
    return emit_record(record, tmp_path / "home")


def test_every_run_starts_and_ends_once(events):
    by_run: dict[str, list[str]] = {}
    for event in events:
        by_run.setdefault(event["run"]["runId"], []).append(event["eventType"])
    assert len(by_run) == 19  # 18 stages and the DAG run
    assert all(types == ["START", "COMPLETE"] for types in by_run.values())
    assert all(uuid.UUID(run).version == 5 for run in by_run)


def test_stages_hang_below_the_dag_run(events):
    root = next(event["run"]["runId"] for event in events if event["job"]["name"] == "retrain")
    for event in events:
        if event["job"]["name"] != "retrain":
            parent = event["run"]["facets"]["parent"]
            assert parent["run"]["runId"] == parent["root"]["run"]["runId"] == root
            assert parent["job"]["name"] == "retrain"


def test_what_one_stage_writes_is_what_the_next_one_reads(events):
    ends = [event for event in events if event["eventType"] == "COMPLETE"]
    written = {version_of(made) for event in ends for made in event.get("outputs", [])}
    for event in ends:
        for read in event.get("inputs", []):
            assert version_of(read) in written or event["job"]["name"] == "retrain.snapshot", read["name"]
    served = next(event for event in ends if event["job"]["name"] == "retrain.prune@harbour")
    assert [made["name"] for made in served["outputs"]] == ["models/served/harbour"]


def version_of(dataset: dict[str, Any]) -> tuple[str, str]:
    return dataset["name"], dataset["facets"]["version"]["datasetVersion"]


def test_a_table_has_its_columns_and_its_size(events):
    end = next(e for e in events if e["job"]["name"] == "retrain.snapshot" and e["eventType"] == "COMPLETE")
    (snapshot,) = end["outputs"]
    (table,) = snapshot["facets"]["schema"]["fields"]
    assert table["name"] == "harbour/interactions"  # its partitions are one table
    assert [column["name"] for column in table["fields"]] == ["user_id", "item_id", "timestamp"]
    statistics = snapshot["outputFacets"]["outputStatistics"]
    assert statistics["rowCount"] > 0
    assert statistics["size"] > statistics["rowCount"]
    assert statistics["fileCount"] == 2


def test_contracts_are_assertions_about_what_validate_read(events):
    start, end = (event for event in events if event["job"]["name"] == "retrain.validate")
    (read,) = end["inputs"]
    asserted = {one["name"]: one for one in read["inputFacets"]["dataQualityAssertions"]["assertions"]}
    assert asserted["interactions"]["success"] is True
    assert asserted["interactions"]["severity"] == "error"
    broken = asserted["metro/interactions: no user"]
    assert (broken["success"], broken["severity"], broken["actual"]) == (False, "warn", "9")
    assert "dataQualityAssertions" not in start["inputs"][0]["inputFacets"]  # nobody knew yet


def test_the_code_is_named(events):
    event = next(event for event in events if event["job"]["name"] == "retrain.transfer@orchard")
    where = event["job"]["facets"]["sourceCodeLocation"]
    assert where["path"] == "pipeline/stages/transfer.py"
    assert len(where["version"]) == 40
    assert "@" not in where["url"].partition("://")[2].partition("/")[0]


def test_a_failed_attempt_fails_with_its_sentence(failed_events):
    end = failed_events[-1] if failed_events[-1]["job"]["name"] != "retrain" else failed_events[-3]
    ends = {event["job"]["name"]: event for event in failed_events if event["eventType"] == "FAIL"}
    assert set(ends) == {"retrain", "retrain.validate"}
    assert ends["retrain.validate"]["run"]["facets"]["errorMessage"]["message"] == COMPLAINT
    assert end["outputs"] == []


def test_ids_are_of_the_run_the_stage_and_the_try(tmp_path):
    one, two = (emit_record(make_record(tmp_path / name), tmp_path / f"home{name}") for name in ("a", "b"))
    assert [event["run"]["runId"] for event in one] == [event["run"]["runId"] for event in two]
    other = emit_record(make_record(tmp_path / "c", run_id="another"), tmp_path / "homec")
    assert {e["run"]["runId"] for e in one}.isdisjoint(e["run"]["runId"] for e in other)


def test_every_facet_is_one_the_client_could_have_made(events, failed_events):
    """The client's classes are generated from the published schema: they refuse unknown fields and missing ones."""
    seen = set()
    for event in events + failed_events:
        for facet in facets_of(event):
            name = facet["_schemaURL"].rpartition("/")[2]
            fields = {key: value for key, value in facet.items() if key not in ("_producer", "_schemaURL")}
            if name in classes():
                classes()[name](**fields)
                seen.add(name)
            else:
                assert name == "RunFacet"  # our own one, which the standard allows
    assert {"ParentRunFacet", "DatasetVersionDatasetFacet", "SchemaDatasetFacet", "DataQualityAssertionsDatasetFacet",
            "SourceCodeLocationJobFacet", "OutputStatisticsOutputDatasetFacet",
            "ErrorMessageRunFacet"} <= seen  # fmt: skip


def test_every_event_validates_against_the_published_schema(events, failed_events):
    from jsonschema import Draft202012Validator, FormatChecker
    from referencing import Registry, Resource

    def retrieve(uri: str) -> Resource[Any]:
        return Resource.from_contents(published(uri.partition("#")[0]))

    def check(value: Any, uri: str) -> None:
        registry: Registry[Any] = Registry(retrieve=retrieve)  # type: ignore[call-arg]
        validator = Draft202012Validator({"$ref": uri}, registry=registry, format_checker=FormatChecker())
        faults = [f"{uri}: {fault.json_path}: {fault.message}" for fault in validator.iter_errors(value)]
        assert faults == []

    published(events[0]["schemaURL"].partition("#")[0])  # or skip
    with pytest.raises(AssertionError, match="runId"):
        check({**events[0], "run": {}}, events[0]["schemaURL"])
    for event in events + failed_events:
        check(event, event["schemaURL"])
        for facet in facets_of(event):
            check(facet, facet["_schemaURL"])


@cache
def published(address: str) -> Any:
    """A schema file: from a checkout of the standard where one is named, else from its published address."""
    checkout = os.environ.get("WARMSTART_OPENLINEAGE_SPEC")
    if checkout:
        # a checkout has one version of every file, and they name each other's by older addresses
        name = address.rpartition("/")[2]
        places = (Path(checkout) / name, Path(checkout) / "facets" / name)
        return json.loads(next(path for path in places if path.is_file()).read_text())
    try:
        answer = httpx.get(address, follow_redirects=True, timeout=10)
    except httpx.TransportError as fault:
        pytest.skip(
            f"{address} cannot be reached ({fault}), and no package ships the schema: run it with a network, or with "
            "WARMSTART_OPENLINEAGE_SPEC=<a checkout of github.com/OpenLineage/OpenLineage>/spec"
        )
    answer.raise_for_status()
    return answer.json()


def facets_of(event: dict[str, Any]) -> list[dict[str, Any]]:
    """Every facet of an event, wherever it hangs."""
    holders = [event["run"].get("facets"), event["job"].get("facets")]
    for dataset in event.get("inputs", []) + event.get("outputs", []):
        holders += [dataset.get(name) for name in ("facets", "inputFacets", "outputFacets")]
    return [facet for holder in holders if holder for facet in holder.values()]


def classes() -> dict[str, Any]:
    modules = ("parent_run", "nominal_time_run", "error_message_run", "job_type_job", "source_code_location_job",
               "dataset_version_dataset", "schema_dataset", "output_statistics_output_dataset",
               "data_quality_assertions_dataset")  # fmt: skip
    loaded = [importlib.import_module(f"openlineage.client.generated.{name}") for name in modules]
    return {
        name: made
        for module in loaded
        for name, made in vars(module).items()
        if isinstance(made, type) and made.__module__ == module.__name__
    }


class Receiver(BaseHTTPRequestHandler):
    """As Marquez listens: POST /api/v1/lineage."""

    taken: list[tuple[str, str | None, dict[str, Any]]]

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.taken.append((self.path, self.headers.get("Authorization"), body))
        self.send_response(201)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def receiver():
    """A real HTTP server, and what it has taken."""
    handler = type("Taking", (Receiver,), {"taken": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", handler.taken
    server.shutdown()
    server.server_close()


def test_a_receiver_gets_every_event_of_a_run(receiver, tmp_path, monkeypatch):
    address, taken = receiver
    expected = emit_record(make_record(tmp_path / "r", cached=("snapshot",)), tmp_path / "home")
    monkeypatch.setenv("OPENLINEAGE_URL", address)
    monkeypatch.setenv("OPENLINEAGE_API_KEY", "a-key")
    assert emit_record(make_record(tmp_path / "again", cached=("snapshot",)), tmp_path / "elsewhere") == []
    assert {path for path, _, _ in taken} == {"/api/v1/lineage"}
    assert {key for _, key, _ in taken} == {"Bearer a-key"}
    seen = [(body["run"]["runId"], body["eventType"]) for _, _, body in taken]
    assert sorted(seen) == sorted((event["run"]["runId"], event["eventType"]) for event in expected)


def test_the_clients_configuration_file_names_a_receiver_too(receiver, tmp_path, monkeypatch):
    address, taken = receiver
    (tmp_path / "ol.yml").write_text(f"transport:\n  type: http\n  url: {address}\n")
    monkeypatch.setenv("OPENLINEAGE_CONFIG", str(tmp_path / "ol.yml"))
    emit(one_manifest(tmp_path), tmp_path / "home")
    assert [body["eventType"] for _, _, body in taken] == ["START", "COMPLETE"]
    assert not events_path(tmp_path / "home").exists()


def test_nothing_is_emitted_when_it_is_turned_off(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENLINEAGE_DISABLED", "true")
    emit(one_manifest(tmp_path), tmp_path / "home")
    assert not (tmp_path / "home").exists()


@pytest.mark.timeout(60)  # it is given up after PATIENCE_SECONDS
@pytest.mark.parametrize("listening", [False, True], ids=["nobody listens", "it never answers"])
def test_a_receiver_that_is_away_costs_seconds_and_loses_nothing(tmp_path, monkeypatch, caplog, listening):
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        if listening:
            deaf.listen()
        monkeypatch.setenv("OPENLINEAGE_URL", f"http://127.0.0.1:{deaf.getsockname()[1]}")
        import openlineage.client  # noqa: F401 (the import is paid once)

        with caplog.at_level(logging.WARNING):
            emit(one_manifest(tmp_path), tmp_path / "home")
    assert "did not take 2 event(s)" in caplog.text
    kept = events_path(tmp_path / "home").read_text().splitlines()
    assert [json.loads(line)["eventType"] for line in kept] == ["START", "COMPLETE"]


def test_a_home_that_cannot_be_written_is_a_warning(tmp_path, caplog):
    (tmp_path / "home").write_text("a file")
    emit(one_manifest(tmp_path), tmp_path / "home")
    assert "were not written" in caplog.text


def test_a_stage_is_told_of_when_it_begins_and_once(tmp_path):
    manifest, home = one_manifest(tmp_path), tmp_path / "home"
    begins = threading.Event()
    with started_when(begins.is_set, lambda: manifest, home):
        time.sleep(2 * POLL_SECONDS)
        assert not events_path(home).exists()
        begins.set()
        end = time.monotonic() + 20
        while not events_path(home).exists() and time.monotonic() < end:
            time.sleep(0.05)
    emit(manifest, home)
    told = [json.loads(line) for line in events_path(home).read_text().splitlines()]
    assert [event["eventType"] for event in told] == ["START", "COMPLETE"]
    assert told[0]["run"]["runId"] == told[1]["run"]["runId"]


def test_a_stage_from_the_cache_is_not_told_of_before_the_close(tmp_path):
    with started_when(lambda: False, lambda: pytest.fail("it has not begun"), tmp_path):
        time.sleep(2 * POLL_SECONDS)
    assert not events_path(tmp_path).exists()


def test_lines_of_runs_at_once_are_whole(tmp_path):
    manifest, home = one_manifest(tmp_path), tmp_path / "home"
    workers = [multiprocessing.get_context("fork").Process(target=_many, args=(manifest, home)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert len([json.loads(line) for line in events_path(home).read_text().splitlines()]) == 4 * 20 * 2


def _many(manifest: dict[str, Any], home: Path) -> None:
    for _ in range(20):
        emit(manifest, home)


def one_manifest(folder: Path) -> dict[str, Any]:
    return read_every_attempt(make_record(folder / "one"))[0]
