"""A new item: recommendable at once, after a restart, and by the next champion."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import psycopg

from tests.serving.conftest import running
from tests.serving.test_recommend import ids, recommend


def list_item(served, item="new-1", **more):
    answer = served.post("/v1/t/items", {"item_id": item, "text": "topic 1", "attributes": ["only:new"], **more})
    assert answer.status_code == 201, answer.text
    return answer.json()


def found(served, item="new-1"):
    return item in ids(recommend(served, session=["t-1"], k=20, filter=["only:new"]))


def test_it_is_recommendable_at_once_after_a_restart_and_by_the_next_champion(served, folders, postgres):
    list_item(served, "another")
    assert list_item(served)["recommendable"]
    assert found(served)
    served.registry.add(folders(2), 2)
    served.registry.promote(2)
    served.wait_for_version(2)
    assert found(served)
    with running(served.registry) as again:
        again.wait_for_version(2)
        assert found(again) and again.client.get("/v1/models").json()["models"][0]["listed_items"] == 2
    with psycopg.connect(postgres) as connection:
        rows = connection.execute("select item_id, text, attributes from listed_items order by item_id").fetchall()
    assert rows == [("another", "topic 1", ["only:new"]), ("new-1", "topic 1", ["only:new"])]


def test_it_can_stand_in_a_session_and_lies_near_its_like(served):
    list_item(served)
    assert recommend(served, session=["new-1"])["source"] == "model"
    model = served.service.champions.current["t"].model
    encoded = served.service.champions._encode
    vectors = encoded(model, list(served.service.champions._items["t"].values()), datetime.now(UTC))
    np.testing.assert_allclose(model.catalogue.vectors[-1], vectors[0], rtol=1e-5)
    assert np.abs(vectors).sum() > 0


def test_listed_again_it_is_described_anew(served):
    list_item(served)
    list_item(served, attributes=["only:new", "brand:1"])
    assert ids(recommend(served, session=["t-1"], filter=["only:new", "brand:1"])) == ["new-1"]
    assert served.service.champions.current["t"].listed == 1


def test_before_its_time_it_is_not_recommended(served):
    now = [datetime(2026, 1, 1, tzinfo=UTC)]
    served.service.champions._now = lambda: now[0]
    answer = list_item(served, available_from="2026-01-01T09:00:00+01:00")
    assert not answer["recommendable"] and not found(served)
    now[0] += timedelta(hours=8)
    served.wait_for(lambda: found(served))


def test_an_item_the_model_knows_is_said_to_be_known(served):
    answer = list_item(served, "t-3")
    assert answer["recommendable"] and "trained on this item" in answer["note"]
