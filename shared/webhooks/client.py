"""The HTTP client for webhooks: one exchange, bounded in time and size, only to permitted addresses."""

import asyncio
import ssl
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Self

import httpcore
import httpx

from shared.egress.dial import CONNECT_TIMEOUT_S, EXCHANGE_ERRORS, Trouble, is_ours, open_pool, trouble_of
from shared.egress.target import Rule, parse

READ_BYTES: Final = 64 * 1024  # of a reply; past it the connection is closed
KEEP_BYTES: Final = 2 * 1024
BODY_S: Final = 2.0  # for the body, once the status is known: a receiver that drips holds a slot for no longer
_MAX_CONNECTIONS: Final = 1000  # the most a queue's concurrency can be, so that a delivery never waits for another's
_IDLE_CONNECTIONS: Final = 50
# Node, Apache and uvicorn close an idle connection after 5 s; a webhook that meets the close is a failed try.
_IDLE_S: Final = 4.0


class FailureKind(StrEnum):
    """Why there is no HTTP answer: egress's Trouble, as the code of a failed attempt. Public API."""

    TARGET_FORBIDDEN = f"WEBHOOK_{Trouble.TARGET_FORBIDDEN}"
    NAME_UNRESOLVED = f"WEBHOOK_{Trouble.NAME_UNRESOLVED}"
    UNREACHABLE = f"WEBHOOK_{Trouble.UNREACHABLE}"
    TLS = f"WEBHOOK_{Trouble.TLS_FAILED}"
    TIMEOUT = f"WEBHOOK_{Trouble.TIMEOUT}"
    CONNECTION_LOST = f"WEBHOOK_{Trouble.CONNECTION_LOST}"
    BAD_ANSWER = f"WEBHOOK_{Trouble.BAD_ANSWER}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """The receiver answered with `status`; `body` is the first 2 kB as they came, still packed if the receiver packs.

    The status line decides: a body that drips until its time is over, or breaks off, changes nothing about it.
    """

    status: int
    retry_after: str | None
    body: bytes
    duration_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """No answer. Nothing here names an address: a tenant must learn nothing about the network that ZapHub is in.

    `is_ours`: by all signs the receiver has no part in it, as when no name server answers or no file can be opened.
    """

    kind: FailureKind
    duration_ms: int
    is_ours: bool = False


Exchanged = Answered | Failed


class SafeClient:
    """One per process; an async context manager that closes its connections."""

    def __init__(
        self,
        rule: Rule,
        *,
        timeout_s: float,
        body_s: float = BODY_S,
        ssl_context: ssl.SSLContext | None = None,
        backend: httpcore.AsyncNetworkBackend | None = None,
    ) -> None:
        """`timeout_s` bounds a whole exchange, from the name to the reply's last byte; `body_s` the reply's body."""
        self._timeout_s = timeout_s
        self._body_s = body_s
        self._pool = open_pool(
            rule,
            max_connections=_MAX_CONNECTIONS,
            idle_connections=_IDLE_CONNECTIONS,
            idle_s=_IDLE_S,
            ssl_context=ssl_context,
            backend=backend,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._pool.aclose()

    async def post(self, url: str, *, headers: Mapping[str, str], body: bytes) -> Exchanged:
        """POST once. Every end is a value; only a cancellation is raised."""
        started = time.monotonic()
        exchange = _Exchange()
        failure: Exception | None = None
        try:
            async with asyncio.timeout(self._timeout_s):
                await exchange.run(self._pool, url, headers, body, body_s=self._body_s)
        except EXCHANGE_ERRORS as error:
            failure = error
        duration_ms = round((time.monotonic() - started) * 1000)
        if exchange.status is not None:
            return Answered(
                status=exchange.status,
                retry_after=exchange.retry_after,
                body=bytes(exchange.body[:KEEP_BYTES]),
                duration_ms=duration_ms,
            )
        assert failure is not None, "an exchange ends with a status or an error"
        kind = FailureKind(f"WEBHOOK_{trouble_of(failure)}")
        return Failed(kind=kind, duration_ms=duration_ms, is_ours=is_ours(failure))


class _Exchange:
    """What is known so far; it outlives the deadline that ends the exchange."""

    def __init__(self) -> None:
        self.status: int | None = None
        self.retry_after: str | None = None
        self.body = bytearray()

    async def run(
        self, pool: httpcore.AsyncConnectionPool, url: str, headers: Mapping[str, str], body: bytes, *, body_s: float
    ) -> None:
        # httpx writes Host and Content-Length, and its URL is the one that the rule judged.
        request = httpx.Request("POST", parse(url), headers={"Accept-Encoding": "identity", **headers}, content=body)
        async with pool.stream(
            request.method,
            httpcore.URL(
                scheme=request.url.raw_scheme,
                host=request.url.raw_host,
                port=request.url.port,
                target=request.url.raw_path,
            ),
            headers=request.headers.raw,
            content=body,
            extensions={"timeout": {"connect": CONNECT_TIMEOUT_S}},
        ) as response:
            self.status = response.status
            self.retry_after = _header(response.headers, b"retry-after")
            async with asyncio.timeout(body_s):
                await self._read(response)

    async def _read(self, response: httpcore.Response) -> None:
        read = 0
        async for chunk in response.aiter_stream():
            self.body += chunk[: KEEP_BYTES - len(self.body)]
            read += len(chunk)
            if read >= READ_BYTES:
                break


def _header(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> str | None:
    return next((value.decode("latin-1") for key, value in headers if key.lower() == name), None)
