"""The synthetic world: the same every time, and as true as it says."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import polars as pl
import pytest

from pipeline.data.world.generate import MarketTables, World, generate
from pipeline.data.world.params import COLD_FROM, END, SIZES, START, TARGETS, WorldParams
from pipeline.data.world.simulate import epoch_of
from pipeline.data.world.truth import TASTE, item_scores, topic_mix
from pipeline.stages.snapshot import best_achievable

TEST_FROM = START + 0.9 * (END - START)


@pytest.fixture(scope="module")
def tiny() -> World:
    return generate(WorldParams(size="tiny"), seed=7)


@pytest.fixture(scope="module")
def small() -> World:
    return generate(WorldParams(size="small"), seed=7)


def test_same_seed_same_rows(tiny: World) -> None:
    again, other = (generate(WorldParams(size="tiny"), seed=seed) for seed in (7, 8))
    for name, market in tiny.markets.items():
        for table in ("interactions", "items", "users"):
            assert getattr(market, table).equals(getattr(again.markets[name], table)), (name, table)
        assert not market.interactions.equals(other.markets[name].interactions)


def test_own_seed_goes_before_the_run_s(tiny: World) -> None:
    own = generate(WorldParams(size="tiny", seed=7), seed=99)
    assert own.markets["metro"].interactions.equals(tiny.markets["metro"].interactions)


@pytest.mark.parametrize("name", SIZES["tiny"])
def test_oracle_rank_is_the_rank_by_brute_force(tiny: World, name: str) -> None:
    """Every interaction of every user, against the probability of every item written out."""
    market = tiny.markets[name]
    visits, checked = market.visits, 0
    for user in np.unique(visits.user)[:60]:
        rows = np.flatnonzero(visits.user == user)
        seen: list[int] = []
        for row in rows:
            item, epoch = int(visits.item[row]), int(epoch_of(visits.moment[row : row + 1])[0])
            probability = _probability(tiny, market, int(market.members[user]), seen, epoch)
            assert probability[item] > 0
            assert visits.rank[row] == 1 + (probability > probability[item]).sum()
            seen.append(item)
            checked += 1
    assert checked > 200


def _probability(world: World, market: MarketTables, person: int, seen: list[int], epoch: int) -> np.ndarray:
    """[N] true probabilities by the formula of truth.py, item by item."""
    catalogue, taste = market.catalogue, world.people.taste[person]
    last = np.array([catalogue.topic[seen[-1]] if seen else -1])
    mix = topic_mix(world.shared, taste[None], last, np.array([epoch]))[0]
    score = np.zeros(len(catalogue.topic))
    for item, topic in enumerate(catalogue.topic):
        if catalogue.first_epoch[item] <= epoch and item not in seen:
            there = (catalogue.topic == topic) & (catalogue.first_epoch <= epoch)
            score[item] = mix[topic] * catalogue.weight[item] / catalogue.weight[there].sum()
    return score / score.sum()


def test_items_are_drawn_with_the_probabilities_the_oracle_ranks_by(tiny: World) -> None:
    """Over all first interactions, expected and observed shares of each topic agree."""
    market = tiny.markets["metro"]
    first = np.unique(market.visits.user, return_index=True)[1]
    epoch = epoch_of(market.visits.moment[first])
    taste = tiny.people.taste[market.members[market.visits.user[first]]]
    mix = topic_mix(tiny.shared, taste, np.full(len(first), -1), epoch)
    assert np.allclose(mix.sum(1), 1)
    expected = mix.sum(0)
    observed = np.bincount(market.catalogue.topic[market.visits.item[first]], minlength=mix.shape[1])
    spread = np.sqrt((mix * (1 - mix)).sum(0))
    assert np.abs((observed - expected) / spread).max() < 4.5
    assert np.allclose(item_scores(market.catalogue, mix[0], int(epoch[0])).sum(), 1)
    assert 0 < TASTE < 1


def test_nobody_gets_an_item_twice_or_before_it_is_there(small: World) -> None:
    for market in small.markets.values():
        rows = market.interactions
        assert rows.select("user_id", "item_id").is_duplicated().sum() == 0
        joined = rows.join(market.items, on="item_id")
        assert len(joined) == len(rows)
        assert joined.filter(pl.col("timestamp") < pl.col("available_from")).is_empty()
        assert rows["timestamp"].min() >= START
        assert rows["timestamp"].max() < END
        for _, times in rows.group_by("user_id", maintain_order=True).agg("timestamp").head(200).iter_rows():
            assert all(a <= b for a, b in pairwise(times))


def test_what_a_cold_start_needs_is_there(small: World) -> None:
    """Users and items that appear late, users shared between markets, late rows, texts that are missing."""
    cold_from = START + COLD_FROM * (END - START)
    people = {name: set(market.users["user_id"]) for name, market in small.markets.items()}
    for name, market in small.markets.items():
        rows = market.interactions
        began = rows.group_by("user_id").agg(pl.col("timestamp").min())["timestamp"]
        assert 0.05 < (began >= cold_from).mean() < 0.35
        assert (market.items["available_from"] >= cold_from).sum() >= 20
        assert 0.01 < (rows["created_at"] > rows["timestamp"]).mean() < 0.06
        assert (rows["created_at"] >= END).any()
        assert market.items["text"].null_count() > 0
        assert market.users.filter(pl.col("attributes").list.len() == 0).height > 0
        if name in TARGETS:
            assert len(people[name] & (people["metro"] | people["valley"])) > 0.2 * len(people[name])


def test_oracle_is_far_above_popularity(small: World) -> None:
    """There is something to learn: over all markets the truth scores more than three times popularity's NDCG@10."""
    achievable, popular = [], []
    for market in small.markets.values():
        rows = market.interactions.sort("timestamp")
        test = rows.filter(pl.col("timestamp") >= TEST_FROM).unique("user_id", keep="first", maintain_order=True)
        train = rows.filter(pl.col("timestamp") < TEST_FROM)
        by_popularity = train.group_by("item_id").len().sort("len", "item_id", descending=True)["item_id"].to_list()
        seen = {user: set(items) for user, items in train.group_by("user_id").agg("item_id").iter_rows()}
        for user, item in test.select("user_id", "item_id").iter_rows():
            fresh = [other for other in by_popularity if other not in seen.get(user, ())][:10]
            popular.append(1 / np.log2(fresh.index(item) + 2) if item in fresh else 0.0)
        rank = test["oracle_rank"].to_numpy()
        achievable += np.where(rank <= 10, 1 / np.log2(rank + 1), 0).tolist()
        assert np.mean(achievable[-len(test) :]) > 2 * np.mean(popular[-len(test) :])
    assert np.mean(achievable) > 3 * np.mean(popular)


def test_best_achievable_is_the_oracle_s_score() -> None:
    """By hand: the first interaction of each user in the last tenth, at ranks 1, 3 and 11."""
    day = [START + (END - START) * share for share in (0.0, 0.5, 0.92, 0.95, 0.97, 1.0)]
    users = ["a" * 16, "b" * 16, "a" * 16, "a" * 16, "b" * 16, "c" * 16]
    rows = pl.DataFrame({"user_id": users, "timestamp": day, "oracle_rank": [9, 9, 3, 1, 1, 11]})
    found = best_achievable(rows)
    assert (found["n"], found["hr10"]) == (3, round(2 / 3, 6))
    assert found["ndcg10"] == round((1 / np.log2(4) + 1) / 3, 6)
