"""Connections to checked addresses, and the reason when there is none.

It stands on httpcore, not on httpx's client: this layer follows no redirect, reads no proxy or .netrc from the
environment, keeps no cookie and unpacks no gzip, so there is none of that to switch off. httpcore's network backend is
its public place for resolving: the pool knows the name (for Host, TLS and reuse), the backend connects to the checked
address.
"""

import asyncio
import contextlib
import errno
import functools
import socket
import ssl
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from typing import Any, Final

import httpcore
import httpx

from shared.domain.errors import InvalidInput
from shared.egress.resolver import Address
from shared.egress.target import Rule, TargetForbidden

RESOLVE_TIMEOUT_S: Final = 10.0  # libc may ask three servers twice, for 5 s each
CONNECT_TIMEOUT_S: Final = 10.0  # per address, so that one that swallows packets leaves time for the next
# What this machine lacks: files, memory, ports, a network; a name server that answers.
_OUR_ERRNOS: Final = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EADDRNOTAVAIL, errno.ENETDOWN, errno.ENETUNREACH}
)
_OUR_NAME_ERRORS: Final = frozenset({socket.EAI_AGAIN, socket.EAI_MEMORY, socket.EAI_SYSTEM})


class Trouble(StrEnum):
    """Why an exchange has no whole HTTP answer."""

    TARGET_FORBIDDEN = "TARGET_FORBIDDEN"
    NAME_UNRESOLVED = "NAME_UNRESOLVED"
    UNREACHABLE = "UNREACHABLE"
    TLS_FAILED = "TLS_FAILED"
    TIMEOUT = "TIMEOUT"
    CONNECTION_LOST = "CONNECTION_LOST"
    BAD_ANSWER = "BAD_ANSWER"


# All that an exchange through `open_pool` raises, beside a cancellation. OSError is gaierror and TimeoutError too.
EXCHANGE_ERRORS: Final = (
    TargetForbidden,
    InvalidInput,
    UnicodeError,
    OSError,
    httpcore.TimeoutException,
    httpcore.NetworkError,
    httpcore.ProtocolError,
)


def trouble_of(error: BaseException) -> Trouble:
    """What one of EXCHANGE_ERRORS means."""
    match error:
        case TargetForbidden() | InvalidInput():
            return Trouble.TARGET_FORBIDDEN
        case TimeoutError() | httpcore.TimeoutException():
            return Trouble.TIMEOUT
        case socket.gaierror() | UnicodeError():
            return Trouble.NAME_UNRESOLVED
        case httpcore.ConnectError():
            return Trouble.TLS_FAILED if _is_tls(error) else Trouble.UNREACHABLE
        case httpcore.NetworkError() | OSError():
            return Trouble.CONNECTION_LOST
        case _:
            return Trouble.BAD_ANSWER


def is_ours(error: BaseException) -> bool:
    """Whether it never began, and by all signs the other side has no part in it: no name server, no file to open."""
    if trouble_of(error) not in {Trouble.NAME_UNRESOLVED, Trouble.UNREACHABLE}:
        return False
    for cause in _causes(error):
        if isinstance(cause, socket.gaierror):
            return cause.errno in _OUR_NAME_ERRORS
        if isinstance(cause, OSError) and cause.errno in _OUR_ERRNOS:
            return True
    return False


def open_pool(
    rule: Rule,
    *,
    max_connections: int,
    idle_connections: int = 0,
    idle_s: float = 0,
    ssl_context: ssl.SSLContext | None = None,
    backend: httpcore.AsyncNetworkBackend | None = None,
) -> httpcore.AsyncConnectionPool:
    """Return a pool that connects to what `rule` permits. The caller closes it; an idle connection goes after `idle_s`.

    Certificates are always verified, by certifi's roots, or the operator's own through SSL_CERT_FILE.
    """
    return httpcore.AsyncConnectionPool(
        ssl_context=ssl_context or _public_roots(),
        max_connections=max_connections,
        max_keepalive_connections=idle_connections,
        keepalive_expiry=idle_s,
        network_backend=_CheckedBackend(rule, backend or httpcore.AnyIOBackend()),
    )


@functools.cache
def _public_roots() -> ssl.SSLContext:
    """Read once per process: it costs tens of milliseconds."""
    return httpx.create_ssl_context()


def _is_tls(error: BaseException) -> bool:
    return any(isinstance(cause, ssl.SSLError) for cause in _causes(error))


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
        *others, last = await self._resolved(host, port)
        for address in others:
            with contextlib.suppress(httpcore.ConnectError, httpcore.ConnectTimeout):
                return _Stream(
                    await self._inner.connect_tcp(str(address), port, timeout, local_address, socket_options)
                )
        return _Stream(await self._inner.connect_tcp(str(last), port, timeout, local_address, socket_options))

    async def _resolved(self, host: str, port: int) -> Sequence[Address]:
        try:
            async with asyncio.timeout(RESOLVE_TIMEOUT_S):
                return await self._rule.addresses(host, port)
        except TimeoutError:
            raise socket.gaierror(socket.EAI_AGAIN, "no name server answered in time") from None

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ARG002, ASYNC109 - httpcore's signature
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,  # noqa: ARG002
    ) -> httpcore.AsyncNetworkStream:
        raise TargetForbidden(path)

    async def sleep(self, seconds: float) -> None:
        await self._inner.sleep(seconds)


class _Stream(httpcore.AsyncNetworkStream):
    """A connection that is closed when the deadline ends its handshake; httpcore closes it after errors only."""

    def __init__(self, inner: httpcore.AsyncNetworkStream) -> None:
        self._inner = inner

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
    ) -> httpcore.AsyncNetworkStream:
        try:
            return await self._inner.start_tls(ssl_context, server_hostname, timeout)
        except asyncio.CancelledError:
            await self._inner.aclose()
            raise

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 - httpcore's
        return await self._inner.read(max_bytes, timeout)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 - httpcore's
        await self._inner.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._inner.aclose()

    def get_extra_info(self, info: str) -> Any:  # noqa: ANN401 - httpcore's signature
        return self._inner.get_extra_info(info)
