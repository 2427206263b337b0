"""GET a file from a URL that a tenant gave: streamed, bounded in size and time, every redirect judged anew."""

import asyncio
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Final

import httpcore
import httpx

from shared.domain.errors import InvalidInput
from shared.egress.dial import CONNECT_TIMEOUT_S, EXCHANGE_ERRORS, Trouble, is_ours, open_pool, trouble_of
from shared.egress.resolver import resolve
from shared.egress.target import Network, Resolve, Rule, parse

MAX_REDIRECTS: Final = 3
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_HEADERS: Final = {"User-Agent": "ZapHub (+media)", "Accept": "*/*", "Accept-Encoding": "identity"}


class FetchFailed(Exception):
    """There is no whole file. Its text names no address, so that a tenant learns nothing about our network.

    `may_help`: another try may end otherwise. `is_ours`: by all signs the other side has no part in it.
    """

    def __init__(self, detail: str, *, trouble: Trouble, is_ours: bool = False) -> None:
        super().__init__(detail)
        self.detail = detail
        self.trouble = trouble
        self.is_ours = is_ours
        self.may_help = trouble is not Trouble.TARGET_FORBIDDEN


class FetchTooLarge(FetchFailed):
    """The file has more bytes than asked for; another try does not help."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__(f"the file is larger than {max_bytes} bytes", trouble=Trouble.BAD_ANSWER)
        self.may_help = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """The answer of the last hop, whatever its status; `url` is that hop's. Header names are in lower case.

    `chunks` is read once, inside the `async with`. It raises FetchFailed when the body breaks off, comes too slowly or
    is too large: what was read until then is no file. `length` is what the other side says; None when it does not.
    """

    url: str
    status: int
    headers: Mapping[str, str]
    length: int | None
    chunks: AsyncIterator[bytes]


_SENTENCES: Final[Mapping[Trouble, str]] = {
    Trouble.TARGET_FORBIDDEN: "the URL leads to an address that may not be reached",
    Trouble.NAME_UNRESOLVED: "the host's name does not resolve",
    Trouble.UNREACHABLE: "the host does not accept a connection",
    Trouble.TLS_FAILED: "no secure connection; check the certificate",
    Trouble.TIMEOUT: "not done in time",
    Trouble.CONNECTION_LOST: "the connection broke",
    Trouble.BAD_ANSWER: "the host gave no whole HTTP answer",
}


@asynccontextmanager
async def safe_get(
    url: str,
    *,
    max_bytes: int,
    deadline_s: float,
    allow_networks: Sequence[Network] = (),
    max_redirects: int = MAX_REDIRECTS,
    resolve: Resolve = resolve,
    ssl_context: ssl.SSLContext | None = None,
) -> AsyncIterator[Fetched]:
    """GET `url` and give its answer, whose body is still to be read. Raises FetchFailed, also from the body's `chunks`.

    `deadline_s` bounds all of it, from the first name to the last byte, with what the caller does in between; it
    interrupts only what is done here. At most `max_redirects` are followed, each to an address that is permitted
    (`allow_networks`: ZAPHUB_WEBHOOK_ALLOW_NETWORKS), never from https to http. The bytes are as they came: a packed
    body (Content-Encoding) is refused, as nothing here unpacks it.
    """
    until = asyncio.get_running_loop().time() + deadline_s
    rule = Rule(allow=tuple(allow_networks), resolve=resolve)
    async with open_pool(rule, max_connections=1, ssl_context=ssl_context) as pool, AsyncExitStack() as stack:
        at, response = await _follow(pool, stack, url, until=until, redirects=max_redirects)
        headers = {key.decode("latin-1").lower(): value.decode("latin-1") for key, value in response.headers}
        if headers.get("content-encoding", "identity").strip().lower() not in {"", "identity"}:
            raise FetchFailed("the host packs the file, which it was asked not to do", trouble=Trouble.BAD_ANSWER)
        length = int(headers["content-length"]) if "content-length" in headers else None
        if length is not None and length > max_bytes:
            raise FetchTooLarge(max_bytes)
        async with aclosing(_read(response, max_bytes=max_bytes, until=until)) as chunks:
            yield Fetched(url=str(at), status=response.status, headers=headers, length=length, chunks=chunks)


async def _follow(
    pool: httpcore.AsyncConnectionPool, stack: AsyncExitStack, url: str, *, until: float, redirects: int
) -> tuple[httpx.URL, httpcore.Response]:
    """The first answer that is no redirect; `stack` ends it. One connection at a time: a hop ends before the next."""
    try:
        async with asyncio.timeout_at(until):
            at = parse(url)
            for _ in range(redirects + 1):
                hop = await stack.enter_async_context(AsyncExitStack())
                response = await hop.enter_async_context(_get(pool, at))
                location = _location(response)
                if location is None:
                    return at, response
                await hop.aclose()
                at = _next(at, location)
    except EXCHANGE_ERRORS as error:
        raise _failed(error) from error
    raise FetchFailed(f"it redirects more than {redirects} times", trouble=Trouble.BAD_ANSWER)


@asynccontextmanager
async def _get(pool: httpcore.AsyncConnectionPool, url: httpx.URL) -> AsyncIterator[httpcore.Response]:
    # httpx writes Host, and its URL is the one that the rule judged.
    request = httpx.Request("GET", url, headers=_HEADERS)
    async with pool.stream(
        "GET",
        httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
        headers=request.headers.raw,
        extensions={"timeout": {"connect": CONNECT_TIMEOUT_S}},
    ) as response:
        yield response


def _location(response: httpcore.Response) -> str | None:
    """Where a redirect leads; None: this is the answer."""
    if response.status not in _REDIRECTS:
        return None
    return next((value.decode("latin-1") for key, value in response.headers if key.lower() == b"location"), None)


def _next(at: httpx.URL, location: str) -> httpx.URL:
    """The next hop's URL, judged as the first was. Its fragment is the reader's own affair."""
    try:
        joined = at.join(location.partition("#")[0])
    except httpx.InvalidURL:
        raise InvalidInput("the redirect leads to no URL.") from None
    if at.scheme == "https" and joined.scheme != "https":
        raise InvalidInput("the redirect leaves https.")
    return parse(str(joined))


async def _read(response: httpcore.Response, *, max_bytes: int, until: float) -> AsyncGenerator[bytes]:
    size = 0
    stream = response.aiter_stream()
    while True:
        try:
            # Around the read alone: a deadline must not cut the caller in the middle of its own work.
            async with asyncio.timeout_at(until):
                chunk = await anext(stream, None)
        except EXCHANGE_ERRORS as error:
            raise _failed(error) from error
        if chunk is None:
            return
        size += len(chunk)
        if size > max_bytes:
            raise FetchTooLarge(max_bytes)
        yield chunk


def _failed(error: BaseException) -> FetchFailed:
    trouble = trouble_of(error)
    # Of a URL that is none, or a redirect to one, the reader is told why; it names no address of ours.
    detail = error.detail if isinstance(error, InvalidInput) else _SENTENCES[trouble]
    return FetchFailed(detail, trouble=trouble, is_ours=is_ours(error))
