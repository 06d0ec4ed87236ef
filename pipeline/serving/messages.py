"""What the service is asked and what it answers: the bodies of its requests, with examples, and of its answers.

Requests are parsed by pydantic's own JSON parser (microseconds). Answers are written by orjson from plain dicts; their
models here are the documentation, and the tests hold every answer against them.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

MOST_ITEMS = 100  # of one answer
MOST_EVENTS = 1000  # of one batch
LARGEST = 2**53  # integers that every JSON parser reads alike

# Not empty, no blank at the beginning, and no NUL, which PostgreSQL cannot keep.
Id = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[^\x00-\x20\s][^\x00]*$")]
Attribute = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[^\x00]+$")]
Text = Annotated[str, Field(max_length=20_000, pattern=r"^[^\x00]*$")]
Name = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[^\x00]+$")]
Short = Annotated[str, Field(max_length=1024, pattern=r"^[^\x00]*$")]
Whole = Annotated[int, Field(ge=-LARGEST, le=LARGEST)]
Real = Annotated[float, Field(allow_inf_nan=False, ge=-1e300, le=1e300)]
Scalar = Annotated[bool | Whole | Real | Short | None, Field(union_mode="left_to_right")]
# 10.0 is the integer 10 in JSON, and "10" is none
Count = Annotated[int, BeforeValidator(lambda n: int(n) if isinstance(n, float) and n.is_integer() else n)]


def _in_utc(moment: datetime) -> datetime:
    # PostgreSQL takes no offset of 16 hours or more
    try:
        return moment.astimezone(UTC)
    except OverflowError as fault:
        raise ValueError("there is no such moment in UTC, it lies before the year 1 or after 9999") from fault


Moment = Annotated[AwareDatetime, AfterValidator(_in_utc)]
Event = Literal["impression", "click", "purchase", "rating", "dislike"]
Source = Literal["model", "profile", "popularity"]


class Message(BaseModel):
    """A body; a field that is not known is a fault of the caller's, not something to pass over."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Context(Message):
    """What is known of this visit or visitor now, besides what the feature store knows."""

    attributes: list[Attribute] = Field(default_factory=list, max_length=32, description="e.g. `city:1`")


class RecommendRequest(Message):
    """Whom to recommend to, and what may be recommended. With neither user nor session it is anybody."""

    user_id: Id | None = Field(None, description="as in the data; it is turned into a pseudonym at once")
    session: list[Id] = Field(
        default_factory=list,
        max_length=1000,
        description="items, oldest first: an anonymous visitor's, or what this user did since the last feedback",
    )
    k: Count = Field(10, ge=1, le=MOST_ITEMS, description="items wanted")
    exclude_seen: bool = Field(True, description="leave out what is in the history")
    filter: list[Attribute] = Field(
        default_factory=list, max_length=32, description="attributes that an item must have, all of them"
    )
    context: Context = Field(default_factory=Context)
    explain: bool = Field(False, description="say for each item what carried it")

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            "examples": [
                {"user_id": "u42", "k": 5, "explain": True},
                {"session": ["i7", "i3"], "filter": ["brand:2"], "context": {"attributes": ["city:1"]}},
            ]
        },
    )


class FeedbackEvent(Message):
    """Something a user did with an item. Sent again with the same `event_id` it is still one event."""

    event_id: Id = Field(description="yours; makes sending it again safe")
    user_id: Id
    item_id: Id
    event: Event
    value: Real | None = Field(None, description="e.g. the stars of a rating")
    happened_at: Moment | None = Field(None, description="with its offset; now when left out", strict=False)
    request_id: Name | None = Field(None, description="of the recommendation that it follows")
    context: dict[Name, Scalar] | None = Field(None, max_length=32, description="kept as it is")

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            "examples": [
                {"event_id": "e-1", "user_id": "u42", "item_id": "i7", "event": "click", "request_id": "8c1f0a"},
                {"event_id": "e-2", "user_id": "u42", "item_id": "i7", "event": "rating", "value": 4.0,
                 "happened_at": "2026-01-02T10:00:00Z"},
            ]
        },
    )  # fmt: skip


class FeedbackBatch(Message):
    """Several events; all of them are kept, or none."""

    events: list[FeedbackEvent] = Field(min_length=1, max_length=MOST_EVENTS)

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            "examples": [
                {"events": [{"event_id": "e-3", "user_id": "u42", "item_id": "i7", "event": "impression"}]},
            ]
        },
    )


class NewItem(Message):
    """An item that the model was not trained on."""

    item_id: Id
    text: Text | None = Field(None, description="title and description")
    attributes: list[Attribute] = Field(default_factory=list, max_length=256)
    available_from: Moment | None = Field(None, description="not recommended before it", strict=False)

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            "examples": [{"item_id": "new-1", "text": "Walnut side table", "attributes": ["brand:2", "room:living"]}]
        },
    )


# answers


class Carrier(BaseModel):
    """A past item that carried a recommendation."""

    item_id: str
    share: float = Field(
        description="by how much the score falls when this item is left out of the history (occlusion)"
    )
    similarity: float = Field(description="cosine of the two items' vectors: content, and who chose them")
    attributes: list[str] = Field(description="that both items have")


class Recommendation(BaseModel):
    """An item and why."""

    item_id: str
    score: float = Field(description="of the model; training interactions where the source is `popularity`")
    because: list[Carrier] | None = Field(None, description="only when `explain` was asked for")


class RecommendAnswer(BaseModel):
    """Items, best first."""

    items: list[Recommendation]
    source: Source = Field(
        description="`model`: from the history; `profile`: no history, from what is known of the user; "
        "`popularity`: nothing is known, or the model could not be asked"
    )
    model: str = Field(description="e.g. `rec-harbour/3`")
    request_id: str
    ignored_items: list[str] = Field(default_factory=list, description="of the session, items nobody knows")
    notes: list[str] = Field(default_factory=list)


class FeedbackAnswer(BaseModel):
    """It is on the disk."""

    accepted: int = Field(description="new events")
    duplicates: int = Field(description="events that were there already")
    request_id: str


class ItemAnswer(BaseModel):
    """It is on the disk; and can it be recommended?"""

    item_id: str
    recommendable: bool
    note: str | None = None
    request_id: str


class Fault(BaseModel):
    """What was wrong and where."""

    type: str
    loc: list[str | int] = Field(description="where: `body`, `path` or `header`, then the field")
    msg: str


class Faults(BaseModel):
    """The body of every answer from 400 on."""

    detail: list[Fault]
    request_id: str


class Model(BaseModel):
    """A champion as it is loaded."""

    target: str
    model: str
    version: int
    run_id: str
    as_of: str
    items: int = Field(description="items it can recommend, with those listed since")
    listed_items: int
    loaded_at: str
    content: str = Field(description="sha256 of the served folder")
    wanted: str | None = Field(None, description="another champion that did not load")
    problem: str | None = Field(None, description="why it did not")


class Models(BaseModel):
    """Every loaded champion."""

    models: list[Model]


class Health(BaseModel):
    """Is the service well?"""

    status: str
    problems: list[str] = Field(default_factory=list)
    targets: list[str] = Field(default_factory=list)


def schema_of(message: type[BaseModel]) -> dict[str, Any]:
    """JSON schema with references as OpenAPI has them."""
    return message.model_json_schema(ref_template="#/components/schemas/{model}")
