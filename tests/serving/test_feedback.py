"""Feedback: kept once, before it is acknowledged, and known to the next answer."""

from __future__ import annotations

import psycopg
import pytest

from pipeline.data.pseudonyms import PUBLIC_KEY, pseudonym
from tests.serving.test_recommend import ids, recommend


def event(number, item="t-3", kind="click", user="anna", **more):
    return {"event_id": f"e-{number}", "user_id": user, "item_id": item, "event": kind, **more}


def kept(postgres):
    with psycopg.connect(postgres) as connection:
        return connection.execute(
            "select event_id, user_id, item_id, event, value, context, request_id from feedback order by seq"
        ).fetchall()


def send(served, body, path="feedback"):
    answer = served.post(f"/v1/t/{path}", body)
    assert answer.status_code == 202, answer.text
    return answer.json()["accepted"], answer.json()["duplicates"]


def test_an_event_is_kept_once_under_a_pseudonym(served, postgres):
    assert send(served, event(1, kind="rating", value=4.5)) == (1, 0)
    assert send(served, event(1, kind="rating", value=4.5)) == (0, 1)
    name = pseudonym("anna", PUBLIC_KEY)
    assert kept(postgres) == [("e-1", name, "t-3", "rating", 4.5, None, None)]


def test_a_batch_counts_what_is_new_and_may_repeat_itself(served, postgres):
    send(served, event(1))
    batch = [event(1), event(2, "t-4"), event(2, "t-4"), event(3, "t-5", happened_at="2026-01-01T00:00:00+02:00")]
    assert send(served, {"events": batch}, "feedback/batch") == (2, 2)
    assert [row[0] for row in kept(postgres)] == ["e-1", "e-2", "e-3"]


def test_the_next_answer_knows_it(served):
    assert recommend(served, user_id="anna")["source"] == "popularity"
    send(served, event(1, "t-3"))
    answer = recommend(served, user_id="anna", k=20)
    assert answer["source"] == "model" and "t-3" not in ids(answer)
    assert ids(answer) == ids(recommend(served, session=["t-3"], k=20))
    send(served, {"events": [event(2, "t-9", "dislike"), event(3, "t-8", "impression")]}, "feedback/batch")
    answer = recommend(served, user_id="anna", k=20)
    assert "t-9" not in ids(answer) and "t-8" in ids(answer)


def test_an_event_of_before_stands_in_its_place_and_an_old_one_is_read_from_the_disk(served):
    send(served, event(1, "t-3", happened_at="2026-01-03T00:00:00Z"))
    recommend(served, user_id="anna")
    send(served, event(2, "t-7", happened_at="2026-01-01T00:00:00Z"))  # late
    assert ids(recommend(served, user_id="anna")) == ids(recommend(served, session=["t-7", "t-3"]))
    served.service.users._cache.clear()
    assert ids(recommend(served, user_id="anna")) == ids(recommend(served, session=["t-7", "t-3"]))


def test_feedback_on_an_answer_says_where_the_answer_came_from(served, postgres):
    answer = recommend(served, session=["t-3"], k=3)
    given = {"request_id": answer["request_id"], "context": {"page": "home"}}
    send(served, event(1, ids(answer)[1], "impression", **given))
    [(*_, context, request)] = kept(postgres)
    assert context == {"page": "home", "source": "model", "model": "rec-t/1", "rank": 2}
    assert request == answer["request_id"]


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"event": "bought"}, "event"),
        ({"happened_at": "2026-01-01T00:00:00"}, "happened_at"),
        ({"value": "4"}, "value"),
        ({"context": {"page": {"deep": 1}}}, "page"),
        ({"event_id": ""}, "event_id"),
    ],
)
def test_a_wrong_field_is_named(served, postgres, changed, field):
    answer = served.post("/v1/t/feedback", event(1) | changed)
    assert answer.status_code == 422 and field in answer.json()["detail"][0]["loc"]
    assert kept(postgres) == []


def test_nothing_is_acknowledged_while_postgres_is_away(served, monkeypatch):
    writing = served.service.feedback._writing
    writing.close()
    url, writing._url = writing._url, "postgresql://nobody@127.0.0.1:1/none"
    answer = served.post("/v1/t/feedback", event(1))
    assert answer.status_code == 503 and answer.headers["Retry-After"]
    writing._url = url
    assert send(served, event(1)) == (1, 0)
