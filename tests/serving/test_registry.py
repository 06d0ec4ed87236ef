"""With a real MLflow: registered by the pipeline's own code, promoted, downloaded by the service, rolled back."""

from __future__ import annotations

from pipeline.registry.promotion import promote, roll_back
from pipeline.registry.registration import Registration, register_version
from pipeline.runs.tracking import experiment_id
from pipeline.serving.access import first_key
from tests.registry_fixture import running_registry
from tests.served_fixture import FakeRegistry
from tests.serving.conftest import Running, running


def test_a_promotion_and_a_rollback_reach_the_service_from_mlflow(tmp_path, folders):
    with running_registry(tmp_path / "registry") as registry:
        numbers = []
        for seed in (1, 2):
            wanted = Registration("t", f"run-{seed}", folders(seed), {}, {"warmstart.as_of": "2026-01-01"}, "card")
            made = register_version(registry.client, registry.rest, wanted, experiment_id(registry.rest))
            numbers.append(made.version)
        promote(registry.rest, "t", numbers[0], None, "user test", "first", None)
        with running(FakeRegistry(registry.home)) as served:
            assert isinstance(served, Running) and first_key(registry.home)
            served.wait_for(lambda: served.service.champions.current or served.service.champions.refused, 90)
            served.wait_for_version(numbers[0])
            promote(registry.rest, "t", numbers[1], numbers[0], "user test", "second", None)
            served.wait_for(lambda: len(list((registry.home / "cache" / "served").glob("?" * 64))) == 2, 90)
            served.wait_for_version(numbers[1])
            [told] = served.client.get("/v1/models").json()["models"]
            assert (told["run_id"], told["as_of"], told["items"]) == ("run-2", "2026-01-01", 24)
            roll_back(registry.rest, "t", "user test", "back")
            served.wait_for_version(numbers[0])
            answer = served.post("/v1/t/recommend", {"session": ["t-3"]})
            assert answer.json()["model"] == f"rec-t/{numbers[0]}" and "X-Warmstart-Degraded" not in answer.headers
