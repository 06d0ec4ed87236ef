"""Around every request: its id, the limit of its body, its line in the log, its place in the metrics, no bare 500.

One plain ASGI middleware; Starlette's stackable ones cost a task and a queue each.
"""

from __future__ import annotations

import logging
import os
import re
import time
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.serving.faults import Refused, fault_response
from pipeline.serving.metrics import Metrics

log = logging.getLogger("pipeline.serving")

BODY_LIMIT = 1 << 20  # bytes
REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
QUIET = frozenset({"/healthz", "/readyz", "/metrics"})  # asked every few seconds by machines


class Around:
    """The middleware. What it learns stands in `scope["state"]`: `request_id`, and `told` for the log."""

    def __init__(self, app: ASGIApp, metrics: Metrics, body_limit: int = BODY_LIMIT) -> None:
        self._app, self._metrics, self._limit = app, metrics, body_limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"")
        request_id = given.decode() if REQUEST_ID.fullmatch(given) else os.urandom(8).hex()
        state: dict[str, Any] = scope.setdefault("state", {})
        state["request_id"], state["told"] = request_id, {}
        status = 500

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
            await send(message)

        read = 0

        async def limited() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > self._limit:
                raise self._too_large()
            return message

        try:
            length = headers.get(b"content-length", b"0")
            if length.isdigit() and int(length) > self._limit:
                raise self._too_large()
            await self._app(scope, limited, answer)
        except Refused as refused:
            await fault_response(refused.status, refused.detail, request_id, refused.headers)(scope, receive, answer)
        except Exception as fault:
            log.error("a request broke", exc_info=fault, extra={"fields": {"request_id": request_id}})
            msg = "the service broke; its log has the request's id"
            detail = [{"type": "internal", "loc": [], "msg": msg}]
            await fault_response(500, detail, request_id)(scope, receive, answer)
        finally:
            self._tell(scope, status, time.perf_counter() - began, state)

    def _tell(self, scope: Scope, status: int, seconds: float, state: dict[str, Any]) -> None:
        route = getattr(scope.get("route"), "path", "none")  # never the path itself: anybody can invent one
        told = state["told"]
        self._metrics.requests.labels(route, told.get("target", ""), str(status)).inc()
        self._metrics.seconds.labels(route).observe(seconds)
        if scope["path"] not in QUIET and log.isEnabledFor(logging.INFO):
            fields = {
                "request_id": state["request_id"],
                "method": scope["method"],
                "route": route,
                "status": status,
                "ms": round(seconds * 1000, 2),
            }
            log.info("request", extra={"fields": fields | told})

    def _too_large(self) -> Refused:
        return Refused(413, f"the body is larger than {self._limit:,} bytes; send it in parts", ["body"], "too_large")
