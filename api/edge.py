"""What surrounds every request: its id, how many there are at once, its log line, its last resort."""

import re
import time
from http import HTTPStatus
from typing import Final
from uuid import uuid4

import structlog
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from api.door import Door, client_of, door
from api.exchange import Exchange
from api.problems import Problem, to_problem
from shared.log import Form

_CLIENT_LEFT: Final = 499  # for the log alone: nobody reads an answer
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._:\-]{1,128}")
_QUIET_PATHS: Final = frozenset({"/healthz", "/readyz", "/metrics"})
# Answered however busy the process is, and while Postgres hangs: what whoever looks after it asks, and pages that never
# ask Postgres. The stream of events is limited by itself.
_UNCOUNTED_PATHS: Final = _QUIET_PATHS | {"/events/stream", "/docs", "/errors", "/openapi.json"}
# Whoever has a key and gets one of these was answered by Postgres; the others may come before it is asked.
_ANSWERED_BY_POSTGRES: Final = frozenset({200, 201, 202, 204, 206, 404, 409})
_WHO_ASKED: Final = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.TOO_MANY_REQUESTS})

_FIELDS: Final = ("request_id", "method", "route", "status", "duration_ms")
_ended: Final = Form("http_request_ended", *_FIELDS)
_ended_of: Final = Form("http_request_ended", *_FIELDS, "client")

_log = structlog.get_logger()


class Edge:
    """The outermost layer but CORS: an unexpected exception ends here, as a 500 problem and one log line."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = Headers(scope=scope).get("x-request-id", "")
        if not _REQUEST_ID.fullmatch(request_id):
            request_id = uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        started = time.perf_counter()
        held = door(scope)
        exchange = Exchange(scope, receive, send, door=held)
        try:
            await self._answer(scope, exchange, held)
        except ClientDisconnect:
            exchange.status = _CLIENT_LEFT
        except Exception as error:  # noqa: BLE001 - the root of a request
            await _answer_error(error, scope, exchange)
        _tell(scope, exchange.status, time.perf_counter() - started)

    async def _answer(self, scope: Scope, exchange: Exchange, held: Door) -> None:
        """Raises Problem 503 when as many requests run as may, or Postgres hangs, before a byte of the body is read."""
        exchange.refuse_what_is_declared()
        if _is_uncounted(scope["path"]):
            await self._app(scope, exchange.receive, exchange.send)
            return
        if held.in_flight >= held.max_in_flight:
            raise _too_busy()
        was_asking, began_at = held.hang.is_on, held.hang.clock()
        if not held.hang.lets_in():
            raise to_problem(TimeoutError()) or _crashed()
        held.in_flight += 1
        try:
            await self._app(scope, exchange.receive, exchange.send)
        finally:
            held.in_flight -= 1
            state = scope["state"]
            held.hang.ended(
                began_at=began_at,
                was_asking=was_asking,
                is_answered=state.get("is_keyed", False) and exchange.status in _ANSWERED_BY_POSTGRES,
                is_in_vain=state.get("is_in_vain", False),
            )


def _is_uncounted(path: str) -> bool:
    return path in _UNCOUNTED_PATHS or path.startswith("/errors/")


def _tell(scope: Scope, status: int, duration_s: float) -> None:
    """Count the request and write its line; the client's address only where somebody asked without a right."""
    route = route_of(scope)
    scope["app"].state.http_timing.observe(route, scope["method"], status, duration_s)
    if scope["path"] in _QUIET_PATHS:
        return
    row = (scope["state"]["request_id"], scope["method"], route, status, round(duration_s * 1000, 1))
    if status in _WHO_ASKED:
        _ended_of.write([(*row, client_of(scope))])
    else:
        _ended.write([row])


async def _answer_error(error: Exception, scope: Scope, exchange: Exchange) -> None:
    problem = to_problem(error)
    if problem is None:
        request_id = scope["state"]["request_id"]
        _log.error("http_request_crashed", request_id=request_id, route=route_of(scope), exc_info=error)
        problem = _crashed()
    if not exchange.status:
        await problem.response(scope)(scope, exchange.receive, exchange.send)


def route_of(scope: Scope) -> str:
    """The route's template, which holds no id; a path that no route has is named by none of its own characters."""
    route = scope.get("route")
    return getattr(route, "path", "") or "unmatched"


def _too_busy() -> Problem:
    return Problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "UNAVAILABLE",
        "This process works on as many requests as it may. Nothing was changed; send the request again.",
        retryable=True,
        headers={"Retry-After": "1"},
    )


def _crashed() -> Problem:
    return Problem(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "INTERNAL",
        "This is a fault of ZapHub. Nothing else is known about it here; the log has a line with this request_id.",
        retryable=True,
    )
