"""Champions change under load; one that does not load leaves the old one serving and shouts."""

from __future__ import annotations

import json
import threading

from pipeline.compression.served_model import ServedModel
from pipeline.settings import settings
from tests.served_fixture import fake_mlflow
from tests.serving.conftest import running


def test_no_answer_fails_and_none_is_mixed_while_champions_change(served, folders):
    registry = served.registry
    registry.add(folders(2), 2)
    expected = {}
    for version in (1, 2):
        model = ServedModel(folders(version))
        history = [model.item_index["t-3"], model.item_index["t-7"]]
        zeros = [[0.0] * len(model.profile_features)]
        items, _ = model.recommend([history], zeros, [[]], [history], 10)
        expected[f"rec-t/{version}"] = [model.item_ids[row] for row in items[0]]
    assert expected["rec-t/1"] != expected["rec-t/2"]
    wrong, asked, seen, stop = [], [0], set(), threading.Event()

    def ask():
        while not stop.is_set():
            answer = served.post("/v1/t/recommend", {"session": ["t-3", "t-7"], "k": 10})
            asked[0] += 1
            told = answer.json()
            seen.add(told.get("model"))
            if answer.status_code != 200 or [i["item_id"] for i in told["items"]] != expected[told["model"]]:
                wrong.append(answer.text)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for number in range(10):
            version = 2 - number % 2
            registry.promote(version)
            served.wait_for_version(version)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not wrong and asked[0] > 20 and seen == {"rec-t/1", "rec-t/2"}


def test_a_champion_that_does_not_load_leaves_the_old_one_and_shouts(served, caplog):
    served.registry.add_broken(2)
    served.registry.promote(2)
    served.wait_for(lambda: served.service.champions.refused)
    assert served.post("/v1/t/recommend", {"session": ["t-3"]}).json()["model"] == "rec-t/1"
    ready = served.client.get("/readyz")
    assert ready.status_code == 200 and ready.json()["status"] == "degraded"
    assert "rec-t/2 is not served" in ready.json()["problems"][0]
    [model] = served.client.get("/v1/models").json()["models"]
    assert model["version"] == 1 and model["wanted"] == "rec-t/2" and "served model" in model["problem"]
    assert 'warmstart_champion_refused{target="t"} 1.0' in served.client.get("/metrics").text
    assert any(record.getMessage() == "champion refused" for record in caplog.records)
    served.registry.promote(1)
    served.wait_for(lambda: not served.service.champions.refused)
    assert served.client.get("/readyz").json()["status"] == "ready"


def test_a_golden_request_that_is_answered_differently_is_refused(served, folders, tmp_path):
    import shutil

    broken = tmp_path / "broken"
    shutil.copytree(folders(2), broken)
    about = json.loads((broken / "model.json").read_text())
    about["golden"]["scores"] = [score + 1 for score in about["golden"]["scores"]]
    (broken / "model.json").write_text(json.dumps(about))
    served.registry.add(broken, 2)
    served.registry.promote(2)
    served.wait_for(lambda: served.service.champions.refused)
    assert "written down at its export" in served.client.get("/readyz").json()["problems"][0]
    assert served.post("/v1/t/recommend", {"session": ["t-3"]}).json()["model"] == "rec-t/1"


def test_files_that_changed_in_the_cache_are_not_served(registry, folders):
    registry.add(folders(1), 1)
    [folder] = (registry.home / "cache" / "served").iterdir()
    (folder / "model.onnx").write_bytes(b"cut off")
    registry.promote(1)
    with running(registry) as started:
        started.wait_for(lambda: started.service.champions.refused)
        assert started.client.get("/readyz").status_code == 503
        answer = started.post("/v1/t/recommend", {})
        assert answer.status_code == 503 and "could not be loaded" in answer.json()["detail"][0]["msg"]


def test_without_mlflow_what_is_loaded_answers_and_says_so(registry, folders, monkeypatch):
    monkeypatch.setattr("pipeline.serving.champions.PROBE_SECONDS", 0.05)
    registry.add(folders(1), 1)
    registry.promote(1)
    with running(registry) as first:
        first.wait_for_version(1)
    address = registry.address
    registry.address = "http://127.0.0.1:1"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry.address)
    settings.cache_clear()
    with running(registry) as second:  # started without MLflow: the last champion of this home
        second.wait_for_version(1)
        second.wait_for(lambda: second.service.champions.away)
        answer = second.post("/v1/t/recommend", {"session": ["t-3"]})
        assert answer.status_code == 200 and answer.headers["X-Warmstart-Degraded"] == "registry"
        assert second.client.get("/readyz").json()["status"] == "degraded"
        with fake_mlflow(registry):
            second.service.champions._rest = type(second.service.champions._rest)(registry.address)
            second.wait_for(lambda: second.service.champions.away is None)
        assert address


def test_without_postgres_the_last_champion_is_loaded_and_nothing_is_acknowledged(registry, folders, monkeypatch):
    registry.add(folders(1), 1)
    registry.promote(1)
    with running(registry) as first:
        first.wait_for_version(1)
    monkeypatch.setenv("WARMSTART_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    settings.cache_clear()
    with running(registry) as second:
        second.wait_for_version(1)
        answer = second.post("/v1/t/recommend", {"user_id": "anna", "session": ["t-3"]})
        assert answer.status_code == 200 and answer.json()["source"] == "model"
        assert answer.headers["X-Warmstart-Degraded"] == "feature-store, registry"
        event = {"event_id": "e", "user_id": "anna", "item_id": "t-3", "event": "click"}
        assert second.post("/v1/t/feedback", event).status_code == 503
        assert second.post("/v1/t/items", {"item_id": "new"}).status_code == 503
