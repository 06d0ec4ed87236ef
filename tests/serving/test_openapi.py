"""The document tells the truth: schemathesis plays it against the service, and finds nothing."""

from __future__ import annotations

import pytest

schemathesis = pytest.importorskip("schemathesis")
from hypothesis import HealthCheck, Phase, given, settings  # noqa: E402
from schemathesis import GenerationMode  # noqa: E402

from tests.serving.server_process import server_process  # noqa: E402

EXAMPLES = 25


def test_the_document_has_an_example_for_every_body(served):
    document = served.client.get("/openapi.json").json()
    bodies = [
        operation["requestBody"]["content"]["application/json"]
        for operations in document["paths"].values()
        for operation in operations.values()
        if "requestBody" in operation
    ]
    assert len(bodies) == 4
    for body in bodies:
        assert body["examples"] and body["schema"]["$ref"].rpartition("/")[2] in document["components"]["schemas"]
    assert served.client.get("/docs").status_code == 200


def test_schemathesis_finds_nothing(registry, folders):
    registry.add(folders(1), 1)
    registry.promote(1)
    with server_process(registry.home) as server:
        document = server.client.get("/openapi.json").json()
        for operations in document["paths"].values():
            for operation in operations.values():
                for parameter in operation.get("parameters", ()):
                    if parameter["name"] == "target":
                        parameter["schema"]["enum"] = ["t", "no such target"]
        found = [played.ok() for played in schemathesis.openapi.from_dict(document).get_all_operations()]
        assert len(found) == 8
        for operation in found:
            modes = [GenerationMode.POSITIVE, GenerationMode.NEGATIVE] if operation.body else [GenerationMode.POSITIVE]
            for mode in modes:
                play(operation, mode, str(server.client.base_url), server.client.headers["X-API-Key"])
        assert "a request broke" not in server.log.read_text()


def play(operation, mode, address, key):
    """Requests that the document allows, or such that it does not; every check of schemathesis on each answer."""

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def one(case):
        case.call_and_validate(base_url=address, headers={"X-API-Key": key})

    one()
