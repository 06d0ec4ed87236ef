"""Promotion and rollback against a real PostgreSQL and a real MLflow server."""

from __future__ import annotations

import psycopg
import pytest

from pipeline.evaluation.verdict import Verdict
from pipeline.exit_codes import BadConfiguration, DataBrokeContract
from pipeline.lineage.database import index_url
from pipeline.registry.champion import ALIAS, PROMOTION_TAG, model_name
from pipeline.registry.promotion import ChampionChanged, promote, promote_if, repair, roll_back
from pipeline.registry.promotion_log import broken_links


@pytest.fixture
def target(registry):
    return registry.new_target()


@pytest.fixture
def three(registry, target):
    """Versions 1, 2 and 3, each promoted after the other."""
    for number in (1, 2, 3):
        assert registry.add_version(target, f"run-{number}") == number
        promote(registry.rest, target, number, number - 1 or None, f"run run-{number}", "better", "v", f"run-{number}")
    return target


def verdict(decision: str = "promote"):
    return lambda champion: Verdict(decision, ["said so"], champion=champion)


def tamper(statement: str) -> None:
    """As a superuser would: the trigger out of the way."""
    with psycopg.connect(index_url(), autocommit=True) as connection:
        connection.execute("alter table promotions disable trigger all")
        connection.execute(statement)
        connection.execute("alter table promotions enable trigger all")


def test_the_log_and_the_alias_say_the_same(registry, three):
    log = registry.log(three)
    assert [(e.from_version, e.to_version) for e in log] == [(None, 1), (1, 2), (2, 3)]
    assert broken_links(log) == []
    assert registry.alias(three) == 3
    assert repair(registry.rest, three) == []


def test_a_stale_verdict_moves_nothing(registry, three):
    registry.add_version(three, "run-4")
    with pytest.raises(ChampionChanged, match="judged against 2, it is 3 now"):
        promote(registry.rest, three, 4, 2, "run run-4", "late", None)
    assert registry.alias(three) == 3
    assert len(registry.log(three)) == 3


def test_a_verdict_is_made_again_when_the_champion_changed(registry, three):
    registry.add_version(three, "run-4")
    registry.add_version(three, "run-5")
    seen = []

    def judge(champion):
        if not seen:  # somebody else is quicker
            promote(registry.rest, three, 4, 3, "run run-4", "quick", None, "run-4")
        seen.append(champion)
        return verdict()(champion)

    _, entry, before = promote_if(registry.rest, three, 5, judge, "run-5")
    assert seen == [3, 4]
    assert (entry.from_version, entry.to_version, before) == (4, 5, 4)


@pytest.mark.parametrize("decision", ["hold", "refuse"])
def test_only_promote_promotes(registry, three, decision):
    registry.add_version(three, "run-4")
    found, entry, before = promote_if(registry.rest, three, 4, verdict(decision), "run-4")
    assert (found.verdict, entry, before) == (decision, None, 3)
    assert registry.alias(three) == 3


def test_a_run_promotes_once(registry, target):
    registry.add_version(target, "run-1")
    first = promote_if(registry.rest, target, 1, verdict(), "run-1")
    again = promote_if(registry.rest, target, 1, verdict(), "run-1")
    assert again == first
    assert len(registry.log(target)) == 1


def test_a_repeated_run_does_not_undo_a_rollback(registry, three):
    roll_back(registry.rest, three, "user ann", "broken pictures")
    found, entry, _ = promote_if(registry.rest, three, 3, verdict(), "run-3")
    assert entry is None
    assert found.verdict == "hold" and "has been replaced since" in found.reasons[0]
    assert registry.alias(three) == 2


def test_rollbacks_go_further_back_each_time(registry, three):
    assert roll_back(registry.rest, three, "user ann", "worse").to_version == 2
    assert roll_back(registry.rest, three, "user ann", "worse still").to_version == 1
    with pytest.raises(BadConfiguration, match="no champion before version 1"):
        roll_back(registry.rest, three, "user ann", "and again")
    entry = registry.log(three)[-1]
    assert (entry.actor, entry.action, entry.reason, entry.verdict_sha256) == (
        "user ann", "rollback", "worse still", None,
    )  # fmt: skip


def test_a_rollback_to_a_version_that_never_served(registry, three):
    registry.add_version(three, "run-4")
    with pytest.raises(BadConfiguration, match=r"version 4 .* is no earlier champion; those are: 2, 1"):
        roll_back(registry.rest, three, "user ann", "why not", to=4)


def test_nothing_to_roll_back(registry, target):
    registry.add_version(target, "run-1")
    with pytest.raises(BadConfiguration, match="never had a champion"):
        roll_back(registry.rest, target, "user ann", "why not")


def test_an_alias_moved_by_hand_follows_the_log_again(registry, three):
    registry.rest.set_alias(model_name(three), ALIAS, 1)
    assert "follows the log to version 3; it was at 1" in repair(registry.rest, three)[0]
    assert registry.alias(three) == 3


def test_a_registry_from_before_the_log_is_taken_over(registry, target):
    registry.add_version(target, "old-run")
    registry.rest.set_alias(model_name(target), ALIAS, 1)
    repair(registry.rest, target)
    [entry] = registry.log(target)
    assert (entry.actor, entry.to_version, entry.reason) == ("run old-run", 1, "was champion when the log began")


def test_a_champion_deleted_in_mlflow_can_be_rolled_back(registry, three):
    registry.rest.delete_version(model_name(three), 3)
    assert roll_back(registry.rest, three, "user ann", "it is gone").to_version == 2
    assert registry.alias(three) == 2


def test_postgres_refuses_to_change_the_log(registry, three):
    with psycopg.connect(index_url()) as connection, pytest.raises(psycopg.errors.RaiseException, match="append-only"):
        connection.execute("update promotions set reason = 'nicer' where target = %s", (three,))
    with psycopg.connect(index_url()) as connection, pytest.raises(psycopg.errors.RaiseException, match="append-only"):
        connection.execute("delete from promotions where target = %s", (three,))


@pytest.mark.parametrize(
    ("column", "value", "sentence"),
    [
        ("reason", "'nicer'", "entry 2 .* has been changed"),
        ("actor", "'user nobody'", "entry 2 .* has been changed"),
        ("to_version", "1", "entry 2 .* has been changed"),
        ("decided_at", "decided_at - interval '1 day'", "entry 2 .* has been changed"),
    ],
)
def test_a_changed_entry_is_named_and_stops_everything(registry, three, column, value, sentence):
    tamper(f"update promotions set {column} = {value} where target = '{three}' and from_version = 1")
    with pytest.raises(DataBrokeContract, match=sentence):
        repair(registry.rest, three)
    registry.add_version(three, "run-4")
    with pytest.raises(DataBrokeContract, match="nothing is moved"):
        promote(registry.rest, three, 4, 3, "run run-4", "late", None)
    assert registry.alias(three) == 3


def test_a_removed_entry_is_found(registry, three):
    tamper(f"delete from promotions where target = '{three}' and from_version = 1")
    with pytest.raises(DataBrokeContract, match=r"entry 2 .* does not follow the entry before it"):
        repair(registry.rest, three)


def test_a_removed_end_is_found(registry, three):
    tamper(f"delete from promotions where target = '{three}' and from_version = 2")
    with pytest.raises(DataBrokeContract, match="the end of the log has been removed"):
        repair(registry.rest, three)
    assert registry.alias(three) == 3
    [version] = [v for v in registry.rest.versions(model_name(three)) if v["version"] == "3"]
    assert PROMOTION_TAG in {tag["key"] for tag in version["tags"]}
