"""Simulated days: what is wanted, what a list is worth, who comes; against brute force, without a service."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.data.world.generate import World, generate
from pipeline.data.world.params import END, SIZES, WorldParams
from pipeline.data.world.truth import SEQUENCE, TASTE, TREND, item_scores, topic_mix
from pipeline.exit_codes import BadConfiguration
from pipeline.simulation.arrivals import newcomers
from pipeline.simulation.choice import best_utility, draw, regret, utility
from pipeline.simulation.day import K, date_of, list_items, plan, play
from pipeline.simulation.figures import figures
from pipeline.simulation.journal import Journal, Visit
from pipeline.simulation.market import Market
from pipeline.simulation.page import render
from pipeline.simulation.world import checked_size, checked_targets, open_world

SEED = 7
DAY = date_of(1)


@pytest.fixture(scope="module")
def world() -> World:
    return generate(WorldParams(size="tiny", seed=SEED), SEED)


@pytest.fixture
def market(world: World) -> Market:
    return Market(world, "harbour")


class Service:
    """Stands for the HTTP client: ranks with what it is given, and keeps what it is told."""

    def __init__(self, market: Market, rank: Any) -> None:
        self.market, self.rank = market, rank
        self.events: dict[str, dict[str, Any]] = {}
        self.items: list[dict[str, Any]] = []
        self.asked = 0

    def recommend(self, target: str, user_id: str, attributes: list[str], k: int) -> dict[str, Any]:
        self.asked += 1
        user = self.market.user_ids.index(user_id)
        shown = [{"item_id": self.market.item_ids[item]} for item in self.rank(user)[:k]]
        return {"items": shown, "request_id": f"to {user_id}", "source": "model", "model": "rec-harbour/1"}

    def feedback(self, target: str, events: list[dict[str, Any]]) -> dict[str, Any]:
        self.events |= {event["event_id"]: event for event in events}
        return {"accepted": len(events)}

    def list_item(self, target: str, item: dict[str, Any]) -> dict[str, Any]:
        self.items.append(item)
        return {"recommendable": True, "note": None}


def played(market: Market, rank: Any, folder: Path, users: int = 120) -> tuple[list[Visit], Service]:
    """Day 1 with a service that ranks so."""
    service = Service(market, rank)
    visits = plan({"harbour": market}, 1, SEED, users)
    return play(service, {"harbour": market}, Journal(folder, {}), 1, visits, 0.3, lambda n: None), service  # type: ignore[arg-type]


def test_what_is_wanted_follows_the_worlds_formula(world: World, market: Market) -> None:
    """Before anybody is new it is the world's own probability, seen items taken out; after, the formula by hand."""
    tables = world.markets["harbour"]
    for user in (0, 5, 17):
        had = market.seen[user]
        person, last = int(tables.members[user]), int(tables.catalogue.topic[had[-1]])
        mix = topic_mix(world.shared, world.people.taste[[person]], np.array([last]), np.array([51]))[0]
        score = item_scores(tables.catalogue, mix, 51)
        score[had] = 0
        np.testing.assert_allclose(market.wants(user), score / score.sum())
    new = newcomers(world, "harbour", SIZES["tiny"]["harbour"], 1, SEED)
    market.join(new, 1)
    user = len(market.user_ids) - 1  # joined now, and had nothing: taste stands in for where the last topic leads
    mix = (TASTE + SEQUENCE) * new.taste[-1] + TREND * world.shared.trend[51]
    topics = [*tables.catalogue.topic.tolist(), *new.topic.tolist()]
    weights = [*tables.catalogue.weight.tolist(), *new.weight.tolist()]
    by_hand = [
        mix[topic] * weight / sum(w for t, w in zip(topics, weights, strict=True) if t == topic)
        for topic, weight in zip(topics, weights, strict=True)
    ]
    np.testing.assert_allclose(market.wants(user), by_hand)


def test_draws_have_the_probabilities() -> None:
    chance = np.array([0.0, 0.5, 0.0, 0.3, 0.2, 0.0])
    drawn = [draw(chance, uniform) for uniform in np.linspace(0, 1, 1000, endpoint=False)]
    assert np.bincount(drawn, minlength=6).tolist() == [0, 500, 0, 300, 200, 0]
    assert draw(chance, 1 - 1e-17) == 4


def test_a_list_is_worth_the_chance_that_it_has_what_is_wanted() -> None:
    chance = np.array([0.1, 0.4, 0.2, 0.3])
    assert utility(chance, [1, 3, 1]) == pytest.approx(0.7)
    assert best_utility(chance, 2) == pytest.approx(max(chance[a] + chance[b] for a in range(4) for b in range(a)))
    assert best_utility(chance, 9) == pytest.approx(1.0)
    assert regret(0.35, 0.7) == pytest.approx(0.5)


def test_the_truth_has_no_regret_and_the_best_hr_and_chance_has_neither(world: World, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arms: dict[str, Any] = {
        "truth": lambda market: lambda user: np.argsort(-market.wants(user), kind="stable").tolist(),
        "popularity": lambda market: lambda user: market.popular(user, K).tolist(),
        "chance": lambda market: lambda user: rng.permutation(len(market.item_ids)).tolist(),
    }
    whole = {}
    for name, arm in arms.items():
        market = Market(world, "harbour")
        visits, _ = played(market, arm(market), tmp_path / name)
        whole[name] = figures({DAY: visits}, {})["targets"]["harbour"]["whole"]
    hr10 = {name: told["hr10"]["service"]["value"] for name, told in whole.items()}
    left = {name: told["regret"]["service"]["value"] for name, told in whole.items()}
    assert left["truth"] == pytest.approx(0, abs=1e-12)
    assert left["truth"] < left["popularity"] < left["chance"]
    assert hr10["truth"] > hr10["popularity"] > hr10["chance"]
    best = whole["truth"]["best_hr10"]["value"]
    n = whole["truth"]["n"]
    assert abs(hr10["truth"] - best) < 4 * np.sqrt(best * (1 - best) / n)
    # the counterfactual is what popularity would have got, request by request
    assert whole["popularity"]["hr10"]["service"] == whole["popularity"]["hr10"]["popularity"]
    assert whole["popularity"]["regret"]["service"] == whole["popularity"]["regret"]["popularity"]


def test_popularity_counts_up_to_midnight_and_leaves_out_what_was_had(market: Market) -> None:
    counted: dict[int, int] = {}
    for items in market.seen:
        for item in items:
            counted[item] = counted.get(item, 0) + 1
    fresh = [item for item in range(len(market.item_ids)) if item not in market.seen[3]]
    assert market.popular(3, K).tolist() == sorted(fresh, key=lambda item: -counted.get(item, 0))[:K]
    rare = fresh[-1]
    for _ in range(1000):
        market.midnight(rare)
    assert market.popular(3, 1).tolist() == [rare]


def test_users_tell_what_they_saw_and_take_only_what_they_want(market: Market, tmp_path: Path) -> None:
    visits, service = played(market, lambda user: market.popular(user, K).tolist(), tmp_path)
    assert any(visit.hit for visit in visits)
    assert any(visit.taken is not None and not visit.hit for visit in visits)  # by searching
    assert any(visit.taken is None for visit in visits)
    assert {visit.taken for visit in visits if visit.taken is not None} <= {visit.wanted for visit in visits}
    shown = [event for event in service.events.values() if event["event"] == "impression"]
    clicks = [event for event in service.events.values() if event["event"] == "click"]
    assert len(shown) == K * len(visits)
    assert len(clicks) == sum(visit.taken is not None for visit in visits)
    assert sum(event["request_id"] is not None for event in clicks) == sum(visit.hit for visit in visits)
    for event in service.events.values():
        assert date.fromisoformat(event["happened_at"][:10]) == DAY


def test_a_day_is_the_same_again_and_every_newcomer_comes(world: World) -> None:
    def days(seed: int) -> list[Any]:
        market = Market(world, "harbour")
        found = []
        for day in (1, 2):
            market.join(newcomers(world, "harbour", SIZES["tiny"]["harbour"], day, seed), day)
            found.append(plan({"harbour": market}, day, seed, 40))
            came = [visit.user for visit in found[-1]]
            assert len(set(came)) == len(came) == 40
            assert {user for user, joined in enumerate(market.joined_on) if joined == day} <= set(came)
        return found

    assert days(7) == days(7)
    assert days(7) != days(8)


def test_a_day_that_was_killed_goes_on_with_the_next_visit(world: World, tmp_path: Path) -> None:
    whole_market, market = Market(world, "harbour"), Market(world, "harbour")
    whole, told = played(whole_market, lambda user: whole_market.popular(user, K).tolist(), tmp_path / "whole", 30)

    class Killed(Service):
        def recommend(self, *words: Any) -> dict[str, Any]:
            if self.asked == 11:
                raise KeyboardInterrupt
            return super().recommend(*words)

    journal, popular = Journal(tmp_path / "killed", {}), lambda user: market.popular(user, K).tolist()
    killed = Killed(market, popular)
    visits = plan({"harbour": market}, 1, SEED, 30)
    with pytest.raises(KeyboardInterrupt):
        play(killed, {"harbour": market}, journal, 1, visits, 0.3, lambda n: None)  # type: ignore[arg-type]
    with (tmp_path / "killed" / "days" / f"{DAY}.jsonl").open("a") as file:
        file.write('{"target": "harb')  # a line that was being written
    market = Market(world, "harbour")
    again, rest = played(market, popular, tmp_path / "killed", 30)
    assert again == whole
    assert len(killed.events | rest.events) == len(told.events)
    assert rest.asked == 19
    assert market.seen == whole_market.seen


def test_new_items_are_listed_as_of_the_clock_and_one_that_is_not_recommendable_is_told_of(
    world: World, market: Market
) -> None:
    from pipeline.exit_codes import PassingFault

    service = Service(market, None)
    new = newcomers(world, "harbour", SIZES["tiny"]["harbour"], 1, SEED)
    list_items(service, "harbour", new, int(END.timestamp()) * 1_000_000)  # type: ignore[arg-type]
    assert [item["item_id"] for item in service.items] == new.items["item_id"].to_list()
    assert {datetime.fromisoformat(item["available_from"]) for item in service.items} == {
        datetime(2026, 1, 1, tzinfo=UTC)
    }
    service.list_item = lambda target, item: {"recommendable": False, "note": "no encoder"}  # type: ignore[method-assign]
    with pytest.raises(PassingFault, match="no encoder"):
        list_items(service, "harbour", new, 0)  # type: ignore[arg-type]


def test_an_item_of_another_world_ends_the_day(market: Market, tmp_path: Path) -> None:
    market.item_ids[3] = "from elsewhere"
    with pytest.raises(BadConfiguration, match="from elsewhere"):
        played(market, lambda user: [3], tmp_path)


def test_what_is_no_world_is_refused(tmp_path: Path) -> None:
    from pipeline.data.world.publish import publish

    with pytest.raises(BadConfiguration, match=r"dataset\.yaml"):
        checked_size("small", str(tmp_path))
    (tmp_path / "dataset.yaml").write_text("name: bookshop\n")
    with pytest.raises(BadConfiguration, match="bookshop"):
        checked_size("small", str(tmp_path))
    with pytest.raises(BadConfiguration, match="did you mean"):
        checked_size("smal", "")
    with pytest.raises(BadConfiguration, match="harbor"):
        checked_targets(["harbor"])
    folder = tmp_path / "world"
    publish(folder, "tiny", SEED)
    assert checked_size("small", str(folder)) == "tiny"
    assert open_world("tiny", SEED, str(folder), ["harbour"], tmp_path)[1] == str(folder)
    with pytest.raises(BadConfiguration, match="seed 8"):
        open_world("tiny", 8, str(folder), ["harbour"], tmp_path)


def test_a_folder_belongs_to_one_simulation(tmp_path: Path) -> None:
    Journal(tmp_path / "out", {"seed": 7})
    Journal(tmp_path / "out", {"seed": 7})
    with pytest.raises(BadConfiguration, match="seed was 7, now 8"):
        Journal(tmp_path / "out", {"seed": 8})
    with pytest.raises(BadConfiguration, match="holds no simulation"):
        Journal(tmp_path, {"seed": 7})


def test_the_page_says_what_the_figures_say(market: Market, tmp_path: Path) -> None:
    visits, _ = played(market, lambda user: market.popular(user, K).tolist(), tmp_path, 30)
    receipt = {"version": 2, "verdict": "promote", "reasons": ["better than <champion>"]}
    days = {date_of(1): visits, date_of(2): visits}
    found = figures(days, {date_of(1): {"verdicts": {"harbour": receipt}}})
    found["asked"] = {"size": "tiny", "seed": SEED, "users_per_day": 30}
    page = render(found)
    whole = found["targets"]["harbour"]["whole"]
    assert whole["n"] == 60
    assert f"{whole['hr10']['service']['value']:.3f}" in page
    assert ">v2<" in page
    assert "better than &lt;champion&gt;" in page
    assert "<script" not in page and "src=" not in page
