"""What surrounds every request: its id, its body's limit, the headers of its answer, its log line, its last resort."""

import asyncio
import re
import time
from contextlib import suppress
from http import HTTPStatus
from typing import Final
from uuid import uuid4

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import Problem, to_problem

MAX_BODY_BYTES: Final = 1_048_576
_MAX_LENGTH_DIGITS: Final = 18
# So much of a refused body is taken in, for so long, that most clients get to read why.
_DRAIN_BYTES: Final = 8 * MAX_BODY_BYTES
_DRAIN_S: Final = 2.0
_CLIENT_LEFT: Final = 499  # for the log alone: nobody reads an answer
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._:\-]{1,128}")
_SECURITY_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_QUIET_PATHS: Final = frozenset({"/healthz", "/readyz", "/metrics"})

_log = structlog.get_logger()


class Edge:
    """The outermost layer but CORS: an unexpected exception ends here, as a 500 problem and one log line."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        request_id = headers.get("x-request-id", "")
        if not _REQUEST_ID.fullmatch(request_id):
            request_id = uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        started = time.perf_counter()
        exchange = _Exchange(receive, send, request_id)
        try:
            if _declares_too_much(headers):
                await too_large().response(request_id)(scope, exchange.receive, exchange.send)
            else:
                await self._app(scope, exchange.receive, exchange.send)
        except ClientDisconnect:
            exchange.status = _CLIENT_LEFT
        except Exception as error:  # noqa: BLE001 - the root of a request
            await _answer_error(error, scope, exchange)
        duration_s = time.perf_counter() - started
        scope["app"].state.http_timing.observe(route_of(scope), scope["method"], exchange.status, duration_s)
        if scope["path"] not in _QUIET_PATHS:
            _log.info(
                "http_request_ended",
                request_id=request_id,
                method=scope["method"],
                route=route_of(scope),
                status=exchange.status,
                duration_ms=round(duration_s * 1000, 1),
            )


class _Exchange:
    """One request and its answer: counts the body before anything is parsed, and dresses the answer."""

    def __init__(self, receive: Receive, send: Send, request_id: str) -> None:
        self._receive = receive
        self._send = send
        self.request_id = request_id
        self.status = 0
        self._bytes = 0
        self._has_more = True

    async def receive(self) -> Message:
        """Raises Problem 413 past the limit."""
        message = await self._read()
        if self._bytes > MAX_BODY_BYTES:
            raise too_large()
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            if self.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
                await self._drain()
            dress(MutableHeaders(scope=message), self.request_id)
        await self._send(message)

    async def _read(self) -> Message:
        message = await self._receive()
        self._bytes += len(message.get("body", b""))
        self._has_more = message.get("more_body", False)
        return message

    async def _drain(self) -> None:
        """Take in, within bounds, what a refused client still sends: it would see a reset in place of the answer."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_S):
                while self._has_more and self._bytes < _DRAIN_BYTES:
                    await self._read()


async def _answer_error(error: Exception, scope: Scope, exchange: _Exchange) -> None:
    problem = to_problem(error)
    if problem is None:
        _log.error("http_request_crashed", request_id=exchange.request_id, route=route_of(scope), exc_info=error)
        problem = _crashed()
    if not exchange.status:
        await problem.response(exchange.request_id)(scope, exchange.receive, exchange.send)


def _declares_too_much(headers: Headers) -> bool:
    declared = headers.get("content-length", "")
    # A server that let a length pass which is no number did not count the body either; ours is counted as it comes.
    return declared.isdecimal() and (len(declared) > _MAX_LENGTH_DIGITS or int(declared) > MAX_BODY_BYTES)


class CorsBySetting:
    """Lets browsers of the origins in ZAPHUB_CORS_ORIGINS call; the setting is known only once the app has started."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._allowing: CORSMiddleware | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        origins = scope["app"].state.cors_origins if scope["type"] == "http" else []
        if not origins:
            await self._app(scope, receive, send)
            return
        if self._allowing is None:
            self._allowing = CORSMiddleware(
                self._app,
                allow_origins=origins,
                allow_methods=["GET", "POST", "PATCH", "DELETE"],
                allow_headers=[
                    "Authorization",
                    "X-API-Key",
                    "Content-Type",
                    "Idempotency-Key",
                    "Prefer",
                    "X-Request-ID",
                ],
                expose_headers=["X-Request-ID", "Retry-After", "Preference-Applied"],
                max_age=600,
            )
        await self._allowing(scope, receive, send)


def dress(headers: MutableHeaders, request_id: str) -> None:
    """Add what every answer carries; a route's own header stands."""
    headers["X-Request-ID"] = request_id
    for name, value in _SECURITY_HEADERS.items():
        headers.setdefault(name, value)


def route_of(scope: Scope) -> str:
    """The route's template, which holds no id; a path that no route has is named by none of its own characters."""
    route = scope.get("route")
    return getattr(route, "path", "") or "unmatched"


def too_large() -> Problem:
    return Problem(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "BODY_TOO_LARGE",
        f"The body has more than {MAX_BODY_BYTES} bytes (1 MiB). Send less at a time; batches may be split.",
        headers={"Connection": "close"},
    )


def _crashed() -> Problem:
    return Problem(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "INTERNAL",
        "This is a fault of ZapHub. Nothing else is known about it here; the log has a line with this request_id.",
        retryable=True,
    )
