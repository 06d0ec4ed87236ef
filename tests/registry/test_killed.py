"""kill -9 between any two steps of registering, promoting and rolling back; and many of them at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.registry.champion import model_name
from pipeline.registry.promotion import promote, repair
from pipeline.registry.promotion_log import broken_links
from tests.registry import killed


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Path:
    """The smallest model there is."""
    return killed.smallest_model(tmp_path_factory.mktemp("served"))


def logged_models(registry, target: str) -> list[str]:
    from pipeline.runs.tracking import experiment_id

    found = registry.client.search_logged_models(
        [experiment_id(registry.rest)], filter_string=f"name = '{model_name(target)}'"
    )
    return [str(model.status).split(".")[-1] for model in found]


def test_registering_is_killed_at_each_step_in_turn(registry, served):
    target = registry.new_target()
    for step in killed.REGISTER_STEPS:
        assert killed.run(killed.register, str(served), target, "run-1", kill_at=step) == -9, step
        assert len(registry.rest.versions(model_name(target))) <= 1
    assert killed.run(killed.register, str(served), target, "run-1") == 0
    assert [v["version"] for v in registry.rest.versions(model_name(target))] == ["1"]
    assert logged_models(registry, target) == ["READY"]


@pytest.mark.parametrize("step", killed.REGISTER_STEPS)
def test_registering_is_killed_and_repeated(registry, served, step):
    target = registry.new_target()
    assert killed.run(killed.register, str(served), target, "run-1", kill_at=step) == -9
    assert killed.run(killed.register, str(served), target, "run-1") == 0
    assert [v["version"] for v in registry.rest.versions(model_name(target))] == ["1"]
    assert logged_models(registry, target) == ["READY"]


def test_twenty_registrations_at_once_are_one_version(registry, served):
    target = registry.new_target()
    children = [killed.start(killed.register, str(served), target, "run-1") for _ in range(20)]
    for child in children:
        child.join(240)
    assert [child.exitcode for child in children] == [0] * 20
    assert len(registry.rest.versions(model_name(target))) == 1
    assert logged_models(registry, target) == ["READY"]


def test_two_runs_are_two_versions_also_of_the_same_model(registry, served):
    target = registry.new_target()
    assert killed.run(killed.register, str(served), target, "run-1") == 0
    promote(registry.rest, target, 1, None, "run run-1", "first", None, "run-1")
    assert killed.run(killed.register, str(served), target, "run-2") == 0
    one, two = registry.rest.versions(model_name(target))
    assert one["source"] == two["source"]  # equal models share their files
    assert logged_models(registry, target) == ["READY"]


def test_a_request_that_was_on_its_way_when_its_sender_was_killed(registry, served):
    """MLflow made the version of a process that is gone, after another had looked and made its own."""
    from pipeline.registry.registration import settle

    target = registry.new_target()
    registry.add_version(target, "run-1")
    registry.add_version(target, "run-1")
    registry.add_version(target, "run-2")
    assert settle(registry.rest, target, "run-1").version == 1
    assert [v["version"] for v in registry.rest.versions(model_name(target))] == ["1", "3"]


@pytest.mark.parametrize("step", killed.PROMOTE_STEPS)
def test_promoting_is_killed_and_repaired_and_repeated(registry, step):
    target = registry.new_target()
    registry.add_version(target, "run-1")
    registry.add_version(target, "run-2")
    promote(registry.rest, target, 1, None, "run run-1", "first", None, "run-1")
    assert killed.run(killed.decide, target, 2, "run-2", kill_at=step) == -9
    logged = registry.log(target)[-1].to_version
    assert logged == (1 if step in ("judged", "champion read") else 2)
    repair(registry.rest, target)
    assert registry.alias(target) == logged  # at the next start the two agree, whichever it is
    assert killed.run(killed.decide, target, 2, "run-2") == 0
    assert registry.alias(target) == 2
    log = registry.log(target)
    assert [e.to_version for e in log] == [1, 2]
    assert broken_links(log) == []


@pytest.mark.parametrize("step", ["champion read", "decision logged", "version marked", "alias moved"])
def test_a_rollback_is_killed_and_repaired(registry, step):
    target = registry.new_target()
    for number in (1, 2):
        registry.add_version(target, f"run-{number}")
        promote(registry.rest, target, number, number - 1 or None, "run r", "better", None, f"run-{number}")
    assert killed.run(killed.take_back, target, "bad", kill_at=step) == -9
    repair(registry.rest, target)
    expected = 2 if step == "champion read" else 1
    assert registry.alias(target) == registry.log(target)[-1].to_version == expected


def test_the_lock_of_a_killed_promoter_is_free(registry):
    target = registry.new_target()
    registry.add_version(target, "run-1")
    assert killed.run(killed.decide, target, 1, "run-1", kill_at="decision logged") == -9
    assert killed.run(killed.decide, target, 1, "run-1") == 0


@pytest.mark.parametrize("seed", range(5))
def test_four_promoters_at_once_leave_the_best(registry, seed):
    """The short form of `make bench-gate`'s `wrong_champions`."""
    import random

    target, draws = registry.new_target(), random.Random(seed)
    qualities = {registry.add_version(target, f"run-{n}"): draws.random() for n in range(4)}
    children = [killed.start(killed.compete, target, qualities, own) for own in qualities]
    for child in children:
        child.join(120)
    assert [child.exitcode for child in children] == [0] * 4
    best = max(qualities, key=qualities.__getitem__)
    log = registry.log(target)
    assert log[-1].to_version == registry.alias(target) == best
    served = [qualities[entry.to_version] for entry in log]
    assert served == sorted(served)  # nobody was ever replaced by a worse one
    assert broken_links(log) == []
