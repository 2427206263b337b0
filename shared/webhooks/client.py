"""The HTTP client for URLs that a tenant chose: one exchange, bounded in time and size, only to permitted addresses.

It stands on httpcore, not on httpx's client: this layer follows no redirect, reads no proxy or .netrc from the
environment, keeps no cookie and unpacks no gzip, so there is none of that to switch off. httpcore's network backend is
its public place for resolving: the pool knows the name (for Host, TLS and reuse), the backend connects to the checked
address.
"""

import asyncio
import contextlib
import errno
import socket
import ssl
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Self

import httpcore
import httpx

from shared.domain.errors import InvalidInput
from shared.webhooks.target import Rule, TargetForbidden, parse

READ_BYTES: Final = 64 * 1024  # of a reply; past it the connection is closed
KEEP_BYTES: Final = 2 * 1024
_CONNECT_TIMEOUT_S: Final = 10.0  # per address, so that one that swallows packets leaves time for the next
_MAX_CONNECTIONS: Final = 1000  # the most a queue's concurrency can be, so that a delivery never waits for another's
_IDLE_CONNECTIONS: Final = 50
_IDLE_S: Final = 30.0
# What this machine lacks: files, memory, ports, a network; a name server that answers.
_OUR_ERRNOS: Final = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EADDRNOTAVAIL, errno.ENETDOWN, errno.ENETUNREACH}
)
_OUR_NAME_ERRORS: Final = frozenset({socket.EAI_AGAIN, socket.EAI_MEMORY, socket.EAI_SYSTEM})


class FailureKind(StrEnum):
    """Why there is no HTTP answer. Public API, as the code of a failed attempt."""

    TARGET_FORBIDDEN = "WEBHOOK_TARGET_FORBIDDEN"
    NAME_UNRESOLVED = "WEBHOOK_NAME_UNRESOLVED"
    UNREACHABLE = "WEBHOOK_UNREACHABLE"
    TLS = "WEBHOOK_TLS_FAILED"
    TIMEOUT = "WEBHOOK_TIMEOUT"
    CONNECTION_LOST = "WEBHOOK_CONNECTION_LOST"
    BAD_ANSWER = "WEBHOOK_BAD_ANSWER"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """The receiver answered with `status`; `body` is the first 2 kB as they came, still packed if the receiver packs.

    The status line decides: a body that drips until the deadline, or breaks off, changes nothing about it.
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
        ssl_context: ssl.SSLContext | None = None,
        backend: httpcore.AsyncNetworkBackend | None = None,
    ) -> None:
        """`timeout_s` bounds a whole exchange, from the name to the reply's last byte."""
        self._timeout_s = timeout_s
        self._pool = httpcore.AsyncConnectionPool(
            # httpx's: certifi's roots, or the operator's own through SSL_CERT_FILE. Always verified.
            ssl_context=ssl_context or httpx.create_ssl_context(),
            max_connections=_MAX_CONNECTIONS,
            max_keepalive_connections=_IDLE_CONNECTIONS,
            keepalive_expiry=_IDLE_S,
            network_backend=_CheckedBackend(rule, backend or httpcore.AnyIOBackend()),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._pool.aclose()

    async def post(self, url: str, *, headers: Mapping[str, str], body: bytes) -> Exchanged:
        """POST once. Every end is a value; only a cancellation is raised."""
        started = time.monotonic()
        exchange = _Exchange()
        kind: FailureKind | None = None
        is_ours = False
        try:
            async with asyncio.timeout(self._timeout_s):
                await exchange.run(self._pool, url, headers, body)
        except (TargetForbidden, InvalidInput):
            kind = FailureKind.TARGET_FORBIDDEN
        except (TimeoutError, httpcore.TimeoutException):
            kind = FailureKind.TIMEOUT
        except (socket.gaierror, UnicodeError) as error:
            kind, is_ours = FailureKind.NAME_UNRESOLVED, _is_ours(error)
        except httpcore.ConnectError as error:
            kind, is_ours = FailureKind.TLS if _is_tls(error) else FailureKind.UNREACHABLE, _is_ours(error)
        except httpcore.ProtocolError:
            kind = FailureKind.BAD_ANSWER
        except (httpcore.NetworkError, OSError):
            kind = FailureKind.CONNECTION_LOST
        duration_ms = round((time.monotonic() - started) * 1000)
        if exchange.status is not None:
            return Answered(
                status=exchange.status,
                retry_after=exchange.retry_after,
                body=bytes(exchange.body[:KEEP_BYTES]),
                duration_ms=duration_ms,
            )
        return Failed(kind=kind or FailureKind.BAD_ANSWER, duration_ms=duration_ms, is_ours=is_ours)


class _Exchange:
    """What is known so far; it outlives the deadline that ends the exchange."""

    def __init__(self) -> None:
        self.status: int | None = None
        self.retry_after: str | None = None
        self.body = bytearray()

    async def run(self, pool: httpcore.AsyncConnectionPool, url: str, headers: Mapping[str, str], body: bytes) -> None:
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
            extensions={"timeout": {"connect": _CONNECT_TIMEOUT_S}},
        ) as response:
            self.status = response.status
            self.retry_after = _header(response.headers, b"retry-after")
            read = 0
            async for chunk in response.aiter_stream():
                self.body += chunk[: KEEP_BYTES - len(self.body)]
                read += len(chunk)
                if read >= READ_BYTES:
                    break


def _header(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> str | None:
    return next((value.decode("latin-1") for key, value in headers if key.lower() == name), None)


def _is_tls(error: BaseException) -> bool:
    return any(isinstance(cause, ssl.SSLError) for cause in _causes(error))


def _is_ours(error: BaseException) -> bool:
    for cause in _causes(error):
        if isinstance(cause, socket.gaierror):
            return cause.errno in _OUR_NAME_ERRORS
        if isinstance(cause, OSError) and cause.errno in _OUR_ERRNOS:
            return True
    return False


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what led to it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


class _CheckedBackend(httpcore.AsyncNetworkBackend):
    """Resolves a name once per connection, lets the rule judge every answer, and connects to a judged address only."""

    def __init__(self, rule: Rule, inner: httpcore.AsyncNetworkBackend) -> None:
        self._rule = rule
        self._inner = inner

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        addresses = await self._rule.addresses(host, port)
        for address in addresses[:-1]:
            with contextlib.suppress(httpcore.ConnectError, httpcore.ConnectTimeout):
                return await self._inner.connect_tcp(str(address), port, timeout, local_address, socket_options)
        return await self._inner.connect_tcp(str(addresses[-1]), port, timeout, local_address, socket_options)

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ARG002, ASYNC109 - httpcore's signature
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,  # noqa: ARG002
    ) -> httpcore.AsyncNetworkStream:
        raise TargetForbidden(path)

    async def sleep(self, seconds: float) -> None:
        await self._inner.sleep(seconds)
