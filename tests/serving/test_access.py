"""Keys by target and role, limits, and a log that names nobody."""

from __future__ import annotations

import json
import logging
import stat

import pytest

from pipeline.exit_codes import BadConfiguration
from pipeline.serving.access import Access, Caller, keys_path
from pipeline.serving.structured_log import JsonLines


def write_keys(registry, *entries):
    path = keys_path(registry.home)
    path.write_text(json.dumps({"keys": [{"name": "n", "key": f"{'k' * 16}{n}", **e} for n, e in enumerate(entries)]}))
    return [f"{'k' * 16}{n}" for n in range(len(entries))]


def test_the_first_key_is_made_for_its_owner_alone(served):
    assert stat.S_IMODE(keys_path(served.registry.home).stat().st_mode) == 0o600
    for headers in ({"X-API-Key": ""}, {"X-API-Key": "guess"}):
        answer = served.post("/v1/t/recommend", {}, headers=headers)
        assert answer.status_code == 401 and answer.headers["WWW-Authenticate"]
    key = served.client.headers["X-API-Key"]
    bearer = {"X-API-Key": "", "Authorization": f"Bearer {key}"}
    assert served.post("/v1/t/recommend", {}, headers=bearer).status_code == 200


def test_a_key_reaches_as_far_as_it_says(served):
    one, other, slow = write_keys(
        served.registry,
        {"roles": ["recommend"], "targets": ["t"]},
        {"roles": ["feedback", "items"], "targets": ["elsewhere"]},
        {"roles": ["recommend"], "requests_per_second": 0.01},
    )
    served.service.access.refresh()
    ask = {"event_id": "e", "user_id": "u", "item_id": "i", "event": "click"}
    for key, path, body, status in (
        (one, "recommend", {}, 200), (one, "feedback", ask, 403), (one, "items", {"item_id": "i"}, 403),
        (other, "feedback", ask, 403), (other, "recommend", {}, 403),
        (slow, "recommend", {}, 200), (slow, "recommend", {}, 429),
    ):  # fmt: skip
        answer = served.post(f"/v1/t/{path}", body, headers={"X-API-Key": key})
        assert answer.status_code == status, answer.text
    assert int(answer.headers["Retry-After"]) >= 1


def test_a_bucket_refills(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("pipeline.serving.access.time.monotonic", lambda: now[0])
    caller = Caller("n", frozenset(), frozenset(), 2.0)
    caller._at = now[0]
    assert [caller.wait() for _ in range(3)] == [0.0, 0.0, 0.5]
    now[0] += 0.5
    assert [caller.wait() for _ in range(2)] == [0.0, 0.5]


def test_a_broken_file_keeps_the_keys_of_before(served):
    keys_path(served.registry.home).write_text('{"keys": [{"name": "n", "key": "short"}]}')
    with pytest.raises(BadConfiguration, match=r"keys.0.key"):
        served.service.access.refresh()
    assert served.post("/v1/t/recommend", {}).status_code == 200
    with pytest.raises(BadConfiguration):
        Access(keys_path(served.registry.home))


def test_a_body_has_a_limit_also_when_it_does_not_say_its_length(served):
    large = b'{"session": ["' + b"x" * (1 << 20) + b'"]}'
    assert served.client.post("/v1/t/recommend", content=large).status_code == 413
    assert served.client.post("/v1/t/recommend", content=iter([large[: 1 << 19]] * 3)).status_code == 413


def test_answers_carry_the_requests_id_and_the_log_no_ids_of_users(served, caplog):
    caplog.set_level(logging.INFO, "pipeline.serving")
    answer = served.post("/v1/t/recommend", {"user_id": "anna@example.com"}, headers={"X-Request-ID": "mine-1"})
    assert answer.headers["X-Request-ID"] == answer.json()["request_id"] == "mine-1"
    odd = served.post("/v1/t/recommend", {}, headers={"X-Request-ID": "not / mine"})
    assert odd.headers["X-Request-ID"] not in ("", "not / mine")
    lines = [JsonLines().format(record) for record in caplog.records if record.name == "pipeline.serving"]
    told = [json.loads(line) for line in lines if '"mine-1"' in line]
    assert told[0]["route"] == "/v1/{target}/recommend" and told[0]["status"] == 200 and len(told[0]["user"]) == 16
    assert "anna" not in "".join(lines)
