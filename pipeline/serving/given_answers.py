"""The answers of late, so that feedback which names one is told where it came from."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from pipeline.serving.messages import FeedbackEvent

REMEMBERED = 20_000


class GivenAnswers:
    """The last `REMEMBERED` answers by request id, in memory. One event loop."""

    def __init__(self) -> None:
        self._answers: OrderedDict[str, dict[str, Any]] = OrderedDict()

    def keep(self, request_id: str, source: str, model: str, items: Sequence[dict[str, Any]]) -> None:
        """An answer that was given."""
        self._answers[request_id] = {"source": source, "model": model, "items": [item["item_id"] for item in items]}
        if len(self._answers) > REMEMBERED:
            self._answers.popitem(last=False)

    def context_of(self, event: FeedbackEvent) -> dict[str, Any] | None:
        """What the caller says, and what is known of the answer that the event follows: `source`, `model`, `rank`."""
        answer = self._answers.get(event.request_id) if event.request_id else None
        if answer is None:
            return event.context
        known: dict[str, Any] = {"source": answer["source"], "model": answer["model"]}
        if event.item_id in answer["items"]:
            known["rank"] = 1 + answer["items"].index(event.item_id)
        return known | (event.context or {})
