"""What the service answers, and to whom it says it comes from where."""

from __future__ import annotations

import asyncio

import httpx
import numpy as np

from pipeline.compression.served_model import ServedModel
from pipeline.serving.messages import RecommendAnswer


def recommend(served, **asked):
    answer = served.post("/v1/t/recommend", asked)
    assert answer.status_code == 200, answer.text
    RecommendAnswer.model_validate(answer.json())
    return answer.json()


def ids(answer):
    return [item["item_id"] for item in answer["items"]]


def test_a_session_is_answered_by_the_model(served, folders):
    answer = recommend(served, session=["t-3", "t-7"], k=5)
    model = ServedModel(folders(1))
    history = [model.item_index["t-3"], model.item_index["t-7"]]
    items, scores = model.recommend([history], np.zeros((1, 2), np.float32), [[]], [history], 5)
    assert ids(answer) == [model.item_ids[row] for row in items[0]]
    np.testing.assert_allclose([item["score"] for item in answer["items"]], scores[0], rtol=1e-5)
    assert answer["source"] == "model" and answer["model"] == "rec-t/1"


def test_what_was_seen_is_left_out_unless_it_is_wanted(served):
    seen = {f"t-{i}" for i in range(1, 9)}
    assert not seen & set(ids(recommend(served, session=sorted(seen), k=16)))
    assert seen & set(ids(recommend(served, session=sorted(seen), k=20, exclude_seen=False)))


def test_a_filter_is_kept_by_the_model_and_by_popularity(served):
    for session, source in ((["t-3"], "model"), ([], "popularity")):
        answer = recommend(served, session=session, k=20, filter=["brand:2", "topic:1"])
        assert answer["source"] == source
        assert set(ids(answer)) == {f"t-{i}" for i in range(1, 25) if i % 5 == 3 and i % 4 == 1}  # brand is (i - 1) % 5


def test_nobody_is_answered_by_popularity_and_somebody_by_what_is_known(served):
    answer = recommend(served, k=3)
    popularity = served.service.champions.current["t"].model.catalogue.popularity
    assert answer["source"] == "popularity"
    assert [item["score"] for item in answer["items"]] == sorted(popularity[1:].tolist(), reverse=True)[:3]
    assert recommend(served, user_id="never seen")["source"] == "popularity"
    assert recommend(served, context={"attributes": ["city:1"]})["source"] == "profile"


def test_unknown_items_of_a_session_are_named(served):
    answer = recommend(served, session=["t-3", "gone", "t-4"])
    assert answer["ignored_items"] == ["gone"] and answer["source"] == "model"
    assert recommend(served, session=["gone"])["source"] == "popularity"


def test_an_unknown_target_names_the_nearest(served):
    answer = served.post("/v1/tt/recommend", {})
    assert answer.status_code == 404 and "did you mean t?" in answer.json()["detail"][0]["msg"]


def test_a_wrong_field_is_named(served):
    for body, field in (
        ({"k": 0}, "k"),
        ({"k": "many"}, "k"),
        ({"session": ["a", 3]}, 1),
        ({"sesion": []}, "sesion"),
        ({"user_id": "nul\u0000"}, "user_id"),
    ):
        answer = served.post("/v1/t/recommend", body)
        assert answer.status_code == 422, answer.text
        assert answer.json()["detail"][0]["loc"][0] == "body" and answer.json()["detail"][0]["loc"][-1] == field
    assert served.client.post("/v1/t/recommend", content=b"{").status_code == 422


def test_an_explanation_names_the_past_items_that_carried_an_item_and_what_they_share(served, folders):
    answer = recommend(served, session=["t-3", "t-7", "t-8"], k=3, explain=True)
    model = ServedModel(folders(1))
    history = [model.item_index[item] for item in ("t-3", "t-7", "t-8")]
    for item in answer["items"]:
        row = model.item_index[item["item_id"]]
        expected = model.explain(history, np.zeros(2, np.float32), [], row)
        assert [one["item_id"] for one in item["because"]] == [model.item_ids[one.row] for one in expected]
        np.testing.assert_allclose(
            [one["share"] for one in item["because"]], [one.share for one in expected], rtol=1e-4
        )
        shared = set(model.catalogue.attributes[row]) & set(model.catalogue.attributes[expected[0].row])
        assert set(item["because"][0]["attributes"]) == shared
    nobody = recommend(served, explain=True)
    assert "because" not in nobody["items"][0] and "without a history" in nobody["notes"][0]


def test_more_than_the_model_gives_is_said(served):
    answer = recommend(served, session=["t-1"], k=100)
    assert len(answer["items"]) == 20 and answer["notes"] == ["this model gives 20 items at most"]


def test_requests_at_once_share_calls_and_are_answered_each_its_own(served):
    alone = {i: ids(recommend(served, session=[f"t-{i}"], k=1 + i % 5)) for i in range(1, 25)}

    async def ask():
        transport = httpx.ASGITransport(served.client.app)
        headers = dict(served.client.headers)
        async with httpx.AsyncClient(transport=transport, base_url="http://s", headers=headers) as client:
            bodies = [{"session": [f"t-{i}"], "k": 1 + i % 5} for i in range(1, 25)]
            return await asyncio.gather(*(client.post("/v1/t/recommend", json=body) for body in bodies))

    together = served.client.portal.call(ask)
    assert {i: ids(answer.json()) for i, answer in enumerate(together, 1)} == alone
    assert "warmstart_batch_requests" in served.client.get("/metrics").text
