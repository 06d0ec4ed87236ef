"""The HTTP service: routes, who may use them, and their documentation at `/docs`.

    uvicorn.run(make_app(settings()))        # or: warmstart serve

Bodies are parsed and answers written here and not by FastAPI, which would validate and copy each answer once more; the
OpenAPI document describes them all the same.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Any, TypeVar

import orjson
from fastapi import FastAPI, Path, Request
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, ValidationError
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException
from starlette.responses import Response

from pipeline.exit_codes import PassingFault
from pipeline.serving.access import Caller
from pipeline.serving.faults import Invalid, Refused, fault_response
from pipeline.serving.messages import (
    Faults,
    FeedbackAnswer,
    FeedbackBatch,
    FeedbackEvent,
    Health,
    ItemAnswer,
    Message,
    Models,
    NewItem,
    RecommendAnswer,
    RecommendRequest,
)
from pipeline.serving.middleware import Around
from pipeline.serving.service import Service
from pipeline.settings import Settings

log = logging.getLogger("pipeline.serving")

DEGRADED = "X-Warmstart-Degraded"
REF = "#/components/schemas/{model}"
Target = Annotated[str, Path(description="a target domain, e.g. `harbour`")]
Body = TypeVar("Body", bound=Message)
REASONS = {
    400: "The request is no HTTP that can be read",
    401: "No API key, or one that nobody has",
    403: "The key does not reach so far",
    404: "There is no such target; the nearest are named",
    413: "The body is too large",
    422: "A field is not valid; it is named",
    429: "More requests than the key allows; `Retry-After` says how long to wait",
    503: "Not now: a champion is being loaded, or PostgreSQL is away; nothing was kept, send it again",
}
DESCRIPTION = """
Recommendations from the champion of each target domain, and the feedback it will learn from.

Send the API key as `X-API-Key` (or `Authorization: Bearer …`); the first one stands in
`$WARMSTART_HOME/secrets/api_keys.json`. Every answer has `X-Request-ID`: yours if you send one. When a server behind
the service is away, answers come from what is in memory, and `X-Warmstart-Degraded` says what was away.
"""


def make_app(
    settings: Settings,
    targets: Sequence[str] | None = None,
    poll_seconds: float = 0.5,
    simulated_clock: bool = False,
) -> FastAPI:
    """The application. `app.state.service` is what answers; see `Service` for the arguments."""
    service = Service(settings, targets, poll_seconds, simulated_clock)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        await service.stop()

    app = FastAPI(title="Warmstart", version="1", description=DESCRIPTION, lifespan=lifespan)
    app.state.service = service
    _speak_of_faults(app)
    _recommendations(app, service)
    _feedback(app, service)
    _items(app, service)
    _operation(app, service)
    app.openapi = lambda: _document(app)  # type: ignore[method-assign]
    app.add_middleware(Around, metrics=service.metrics)
    return app


def _recommendations(app: FastAPI, service: Service) -> None:
    @app.post("/v1/{target}/recommend", **_route("Items for a user or a session", RecommendRequest, RecommendAnswer))
    async def recommend(target: Target, request: Request) -> Response:
        state = _admit(service, request, "recommend", target)
        asked = await _body(request, RecommendRequest)
        answer, away = await service.recommend(target, asked, state["request_id"], state["told"])
        degraded = service.degraded(away or service.users.away)
        return _json(answer, headers={DEGRADED: degraded} if degraded else None)


def _feedback(app: FastAPI, service: Service) -> None:
    @app.post(
        "/v1/{target}/feedback", **_route("One event; on the disk before the 202", FeedbackEvent, FeedbackAnswer, 202)
    )
    async def feedback(target: Target, request: Request) -> Response:
        state = _admit(service, request, "feedback", target)
        return await take(target, [await _body(request, FeedbackEvent)], state)

    @app.post(
        "/v1/{target}/feedback/batch", **_route("Several events, all or none", FeedbackBatch, FeedbackAnswer, 202)
    )
    async def feedback_batch(target: Target, request: Request) -> Response:
        state = _admit(service, request, "feedback", target)
        return await take(target, (await _body(request, FeedbackBatch)).events, state)

    async def take(target: str, events: Sequence[FeedbackEvent], state: dict[str, Any]) -> Response:
        accepted, duplicates = await service.take(target, events, state["told"])
        answer = {"accepted": accepted, "duplicates": duplicates, "request_id": state["request_id"]}
        return _json(answer, 202)


def _items(app: FastAPI, service: Service) -> None:
    @app.post("/v1/{target}/items", **_route("An item that is recommendable at once", NewItem, ItemAnswer, 201))
    async def list_item(target: Target, request: Request) -> Response:
        state = _admit(service, request, "items", target)
        asked = await _body(request, NewItem)
        recommendable, note = await service.list_item(target, asked)
        answer = {"item_id": asked.item_id, "recommendable": recommendable, "note": note}
        return _json(answer | {"request_id": state["request_id"]}, 201)


def _operation(app: FastAPI, service: Service) -> None:
    champions = service.champions

    @app.get("/v1/models", **_route("Which champions answer", None, Models))
    async def models(request: Request) -> Response:
        _admit(service, request, "recommend", None)
        found = []
        for target in sorted(champions.current):
            refused = champions.refused.get(target)
            told = {"wanted": f"rec-{target}/{refused.version}", "problem": refused.why} if refused else {}
            found.append({"wanted": None, "problem": None} | champions.current[target].about() | told)
        return _json({"models": found})

    @app.post("/v1/models/refresh", **_route("Look at the registry and the keys now", None, Health, 202))
    async def refresh(request: Request) -> Response:
        _admit(service, request, "admin", None)
        champions.look_now()
        service.access.refresh()
        return _json({"status": "looking", "problems": [], "targets": sorted(champions.targets)}, 202)

    @app.get("/healthz", **_route("The process answers", None, Health, open_to_all=True))
    async def healthz() -> Response:
        return _json({"status": "ok", "problems": [], "targets": []})

    @app.get("/readyz", **_route("Champions are loaded; what is wrong, if anything", None, Health, open_to_all=True))
    async def readyz() -> Response:
        ready = sorted(champions.current)
        problems = champions.problems() + (["feature store: it did not answer lately"] if service.users.away else [])
        status = "ready" if ready and not problems else "degraded" if ready else "not ready"
        return _json({"status": status, "problems": problems, "targets": ready}, 200 if ready else 503)

    @app.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _admit(service: Service, request: Request, role: str, target: str | None) -> dict[str, Any]:
    """May this caller ask this, now? Returns the request's state."""
    state: dict[str, Any] = request.scope["state"]
    headers = dict(request.scope["headers"])
    key = headers.get(b"x-api-key") or headers.get(b"authorization", b"").removeprefix(b"Bearer ")
    caller: Caller | None = service.access.caller(key)
    if caller is None:
        raise Refused(401, "send a valid API key as X-API-Key", ["header", "X-API-Key"], "unauthorized",
                      {"WWW-Authenticate": "Bearer"})  # fmt: skip
    state["told"]["caller"] = caller.name
    if not caller.may(role, target):
        where = f" of {target[:80]}" if target is not None else ""
        raise Refused(403, f"the key {caller.name!r} has no role {role}{where}", ["header", "X-API-Key"], "forbidden")
    if wait := caller.wait():
        raise Refused(429, f"{caller.name!r} may ask {caller.rate:g} times a second", ["header", "X-API-Key"],
                      "too_many_requests", {"Retry-After": str(max(1, round(wait)))})  # fmt: skip
    if target is not None:
        service.known(target)  # before the body is read, and before the target becomes a label of a metric
        state["told"]["target"] = target
    return state


async def _body(request: Request, message: type[Body]) -> Body:
    try:
        return message.model_validate_json(await request.body())
    except ValidationError as fault:
        raise Invalid(fault) from None


def _json(answer: dict[str, Any], status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(answer), status, headers, "application/json")


def _speak_of_faults(app: FastAPI) -> None:
    def request_id(request: Request) -> str:
        return str(request.scope.get("state", {}).get("request_id", ""))

    @app.exception_handler(Refused)
    async def refused(request: Request, fault: Refused) -> Response:
        return fault_response(fault.status, fault.detail, request_id(request), fault.headers)

    @app.exception_handler(PassingFault)
    async def passing(request: Request, fault: PassingFault) -> Response:
        log.error("a server was away", extra={"fields": {"request_id": request_id(request), "why": str(fault)}})
        detail = [{"type": "away", "loc": [], "msg": "PostgreSQL did not answer; send it again"}]
        return fault_response(503, detail, request_id(request), {"Retry-After": "2"})

    @app.exception_handler(HTTPException)
    async def http(request: Request, fault: HTTPException) -> Response:
        detail = [{"type": "http", "loc": ["path"], "msg": str(fault.detail)}]
        return fault_response(fault.status_code, detail, request_id(request), fault.headers)


def _route(
    summary: str,
    asked: type[BaseModel] | None,
    answer: type[BaseModel],
    status: int = 200,
    open_to_all: bool = False,
) -> dict[str, Any]:
    """What FastAPI is told of a route, for the document alone."""
    reasons = {} if open_to_all else dict(REASONS)
    if asked is None:
        reasons = {code: reason for code, reason in reasons.items() if code not in (404, 413, 422)}
    if open_to_all:
        reasons = {503: "No champion is loaded"}
    extra: dict[str, Any] = {} if open_to_all else {"security": [{"APIKey": []}, {"Bearer": []}]}
    if asked is not None:
        schema = {"$ref": REF.format(model=asked.__name__)}
        examples: list[Any] = asked.model_config["json_schema_extra"]["examples"]  # type: ignore[index,call-overload,assignment]
        named = {f"example {number}": {"value": value} for number, value in enumerate(examples, 1)}
        content = {"application/json": {"schema": schema, "examples": named}}
        extra["requestBody"] = {"required": True, "content": content}
    told = {code: {"model": Health if open_to_all else Faults, "description": why} for code, why in reasons.items()}
    return {
        "summary": summary,
        "status_code": status,
        "response_class": Response,
        "responses": {status: {"model": answer, "description": summary}} | told,
        "openapi_extra": extra,
    }


def _document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, with the bodies that FastAPI does not parse."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, description=DESCRIPTION, routes=app.routes)
        bodies: list[type[BaseModel]] = [RecommendRequest, FeedbackEvent, FeedbackBatch, NewItem]
        _, told = models_json_schema([(body, "validation") for body in bodies], ref_template=REF)
        components = document.setdefault("components", {})
        components.setdefault("schemas", {}).update(told["$defs"])
        components["securitySchemes"] = {
            "APIKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            "Bearer": {"type": "http", "scheme": "bearer"},
        }
        for operations in document["paths"].values():
            for operation in operations.values():
                for code in ("200", "201", "202", "422", "503"):
                    # FastAPI writes its own 422, and text/plain beside what a route really answers
                    operation["responses"].get(code, {}).get("content", {}).pop("text/plain", None)
        app.openapi_schema = document
    return app.openapi_schema
