"""One request and its answer at the edge: the body counted and timed as it comes, the answer dressed as it leaves."""

import asyncio
from contextlib import suppress
from http import HTTPStatus
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import Message, Receive, Scope, Send

from api.door import Door
from api.problems import Problem

MAX_BODY_BYTES: Final = 1_048_576
_MIB: Final = 1_048_576
# Where files are uploaded; everything else has MAX_BODY_BYTES.
_UPLOADS: Final = "/media"
_MAX_LENGTH_DIGITS: Final = 18
# So much of a refused body is taken in, for so long, that most clients get to read why.
_DRAIN_BYTES: Final = 8 * MAX_BODY_BYTES
_DRAIN_S: Final = 2.0
# A body may take longer than its deadline when it comes at least as fast as this: a large one on a slow line.
_SLOWEST_BYTES_PER_S: Final = 16_384
# Nothing of ours is for a page of another site to frame, embed or guess the type of. Encoded, as every answer has them.
_SECURITY_HEADERS: Final = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
)
_HTTPS_ONLY: Final = "max-age=31536000; includeSubDomains"


class Exchange:
    """What the app receives and sends goes through here; `status` is the answer's, 0 before there is one."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, *, door: Door) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._door = door
        self._clock = asyncio.get_running_loop().time
        self._began_at = self._clock()
        self._most_bytes = most_bytes(scope["path"], door)
        self._bytes = 0
        self._has_more = True
        self.status = 0

    async def receive(self) -> Message:
        """Raises Problem 413 past the limit, 408 when the body comes too slowly."""
        if not self._has_more:
            return await self._receive()  # the news that the client left, however long that takes
        left_s = self._door.body_timeout_s + self._bytes / _SLOWEST_BYTES_PER_S - (self._clock() - self._began_at)
        try:
            async with asyncio.timeout(max(0.0, left_s)):
                message = await self._read()
        except TimeoutError:
            raise _too_slow() from None
        if self._bytes > self._most_bytes:
            raise too_large(self._most_bytes)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            if self.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
                await self._drain()
            dress(MutableHeaders(scope=message), self._scope, self._door)
        await self._send(message)

    def refuse_what_is_declared(self) -> None:
        """Raises Problem 413 for a length that is too much, before a byte is read."""
        declared = Headers(scope=self._scope).get("content-length", "")
        # A server that let a length pass which is no number did not count the body either; ours is counted as it comes.
        if declared.isdecimal() and (len(declared) > _MAX_LENGTH_DIGITS or int(declared) > self._most_bytes):
            raise too_large(self._most_bytes)

    async def _read(self) -> Message:
        message = await self._receive()
        self._bytes += len(message.get("body", b""))
        self._has_more = message.get("more_body", False)
        return message

    async def _drain(self) -> None:
        """Take in, within bounds, what a refused client still sends: it would see a reset in place of the answer."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_S):
                while self._has_more and self._bytes < self._most_bytes + _DRAIN_BYTES:
                    await self._read()


def dress(headers: MutableHeaders, scope: Scope, door: Door) -> None:
    """Add what every answer carries; a route's own header stands."""
    state = scope["state"]
    headers["X-Request-ID"] = state["request_id"]
    there = {name for name, _ in headers.raw}
    headers.raw.extend(header for header in _SECURITY_HEADERS if header[0] not in there)
    if door.is_https:
        headers["Strict-Transport-Security"] = _HTTPS_ONLY
    if (limit := state.get("rate_limit")) is not None:
        headers["RateLimit-Policy"], headers["RateLimit"] = limit


def most_bytes(path: str, door: Door) -> int:
    """How long a body may be that is sent to this path."""
    return door.upload_bytes if path == _UPLOADS else MAX_BODY_BYTES


def too_large(limit: int) -> Problem:
    return Problem(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "BODY_TOO_LARGE",
        f"The body has more than {limit} bytes ({limit // _MIB} MiB). Send less at a time; batches may be split.",
        headers={"Connection": "close"},
    )


def _too_slow() -> Problem:
    return Problem(
        HTTPStatus.REQUEST_TIMEOUT,
        "REQUEST_TIMEOUT",
        "The body did not arrive in time. Nothing was changed; send the request again.",
        retryable=True,
        headers={"Connection": "close"},
    )
