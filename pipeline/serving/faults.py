"""Every answer from 400 on has one form: what was wrong, where, and the request it belongs to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from pydantic import ValidationError
from starlette.responses import Response


class Refused(Exception):
    """A request that is answered with a fault.

    Args:
        status: of HTTP.
        msg: a sentence: what was found, what was expected, what to do.
        loc: `body`, `path` or `header`, then the field.
    """

    def __init__(
        self,
        status: int,
        msg: str,
        loc: Sequence[str | int] = (),
        kind: str = "refused",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(msg)
        self.status, self.headers = status, dict(headers or {})
        self.detail: list[dict[str, Any]] = [{"type": kind, "loc": list(loc), "msg": msg}]


class Invalid(Refused):
    """A body that is not what it should be: 422, each field that is wrong by name."""

    def __init__(self, fault: ValidationError) -> None:
        super().__init__(422, "the body is not valid", ["body"])
        self.detail = [
            {"type": error["type"], "loc": ["body", *error["loc"]], "msg": error["msg"]}
            for error in fault.errors(include_url=False, include_context=False, include_input=False)
        ]


def fault_response(
    status: int, detail: Sequence[Mapping[str, Any]], request_id: str, headers: Mapping[str, str] | None = None
) -> Response:
    """The response."""
    body = orjson.dumps({"detail": list(detail), "request_id": request_id})
    return Response(body, status, dict(headers or {}), "application/json")
