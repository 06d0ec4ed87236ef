"""Users from a real online store: what a night has pushed, and what happened since."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from pipeline.compression.served_model import ServedModel
from pipeline.data.pseudonyms import PUBLIC_KEY, pseudonym
from pipeline.features.online_store import open_online_store, push
from pipeline.settings import settings
from tests.served_fixture import PROJECT
from tests.serving.test_feedback import event, send
from tests.serving.test_recommend import ids, recommend

DAY = 86_400_000_000
NOW = pl.Series([1_767_225_600_000_000], dtype=pl.Int64).cast(pl.Datetime("us", "UTC"))


@pytest.fixture(scope="module")
def online(postgres, tmp_path_factory):
    """The online store, with `olga` who has a history in `t` and attributes, and `paul` who is known elsewhere only."""
    olga, paul = (pseudonym(name, PUBLIC_KEY) for name in ("olga", "paul"))
    features = tmp_path_factory.mktemp("features")
    clocks = {"event_timestamp": NOW[0], "created_timestamp": NOW[0]}
    start = 1_767_000_000_000_000
    tables = {
        "user_profile": [{"user_id": olga, "attributes": ["city:1", "plan:free"]}],
        "user_footprint": [
            {"user_id": user, "n_interactions": 3, "n_domains": 1, "first_time": start, "last_time": start + DAY}
            for user in (olga, paul)
        ],
        "user_activity": [
            {"user_id": user, "domain": domain, "n_interactions": 3, "mean_value": 1.5, "first_time": start,
             "last_time": start + DAY} for user, domain in ((olga, "t"), (paul, "a"))
        ],
        "user_history": [
            {"user_id": olga, "domain": "t", "item_ids": ["t-3", "t-7"], "times": [start, start + DAY]}
        ],
        "item_statistics": [
            {"item_id": "t-3", "domain": "t", "n_interactions": 1, "recent_interactions": 1.0, "mean_value": 1.0,
             "last_time": start}
        ],
    }  # fmt: skip
    frames = {}
    for view, rows in tables.items():
        frames[view] = pl.DataFrame([row | clocks for row in rows])
        frames[view].write_parquet(features / f"{view}.parquet")
    store = open_online_store(settings(), features, PROJECT)
    for view, frame in frames.items():
        push(store, view, frame, 100)
    return store


def test_history_and_attributes_of_last_night(online, served, folders):
    answer = recommend(served, user_id="olga", k=10)
    assert answer["source"] == "model"
    model = ServedModel(folders(1))
    profile = np.array([[1.0, np.log1p(2) / np.log1p(1000)]], dtype=np.float32)
    history = [model.item_index["t-3"], model.item_index["t-7"]]
    items, _ = model.recommend([history], profile, [["city:1", "plan:free"]], [history], 10)
    assert ids(answer) == [model.item_ids[row] for row in items[0]]


def test_what_happened_since_stands_behind_and_what_is_in_both_stands_once(online, served):
    seen = event(1, "t-7", user="olga", happened_at="2025-12-30T09:20:00Z")  # as in last night's history
    send(served, {"events": [seen, event(2, "t-11", user="olga")]}, "feedback/batch")
    recommend(served, user_id="olga")
    [user] = served.service.users._cache.values()
    assert user.item_ids == ["t-3", "t-7", "t-11"]


def test_known_elsewhere_is_a_profile(online, served):
    assert recommend(served, user_id="paul")["source"] == "profile"


def test_without_the_store_memory_answers_and_says_so(online, served, monkeypatch):
    before = recommend(served, user_id="olga")
    users = served.service.users

    def away(*_):
        raise ConnectionError("the store is away")

    monkeypatch.setattr(users._features, "read", away)
    monkeypatch.setattr("pipeline.serving.users.FRESH_SECONDS", 0.0)
    answer = served.post("/v1/t/recommend", {"user_id": "olga"})
    assert answer.headers["X-Warmstart-Degraded"] == "feature-store"
    assert answer.json()["items"] == before["items"] and answer.json()["source"] == "model"
    stranger = served.post("/v1/t/recommend", {"user_id": "not in memory"})
    assert stranger.json()["source"] == "popularity" and stranger.headers["X-Warmstart-Degraded"] == "feature-store"
    monkeypatch.undo()
    served.wait_for(lambda: not users.away)
    assert "X-Warmstart-Degraded" not in served.post("/v1/t/recommend", {"user_id": "not in memory"}).headers
