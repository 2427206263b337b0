"""Fetching a file from a URL that a tenant gave, against real sockets."""

import asyncio
import gzip
import ssl
from collections.abc import Sequence
from ipaddress import ip_network

import pytest
import trustme

from shared.egress.dial import Trouble
from shared.egress.fetch import MAX_REDIRECTS, FetchFailed, FetchTooLarge, safe_get
from shared.egress.resolver import resolve
from shared.egress.target import Network, Resolve
from tests.integration.webhooks.servers import LOOPBACK, Answers, Play, replying, serving

FILE = replying(b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: 4\r\n\r\n\x89PNG")


async def fetch(
    url: str,
    *,
    max_bytes: int = 1000,
    deadline_s: float = 5,
    allow_networks: Sequence[Network] = LOOPBACK,
    resolve: Resolve = resolve,
    ssl_context: ssl.SSLContext | None = None,
) -> tuple[int, bytes]:
    async with safe_get(
        url,
        max_bytes=max_bytes,
        deadline_s=deadline_s,
        allow_networks=allow_networks,
        resolve=resolve,
        ssl_context=ssl_context,
    ) as fetched:
        return fetched.status, b"".join([chunk async for chunk in fetched.chunks])


async def failure(url: str, **how: float | Sequence[Network] | Resolve | ssl.SSLContext) -> FetchFailed:
    with pytest.raises(FetchFailed) as failed:
        await fetch(url, **how)  # type: ignore[arg-type]
    return failed.value


def redirecting(*locations: str) -> Play:
    """Each connection is sent to the next place."""
    left = list(locations)

    async def play(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 302 Found\r\nLocation: {left.pop(0)}\r\nContent-Length: 0\r\n\r\n".encode())
        await writer.drain()

    return play


async def test_a_file_is_streamed_with_its_status_headers_and_length() -> None:
    async with (
        serving(FILE) as server,
        safe_get(f"{server.url}?a=b", max_bytes=4, deadline_s=5, allow_networks=LOOPBACK) as fetched,
    ):
        body = b"".join([chunk async for chunk in fetched.chunks])

    assert (fetched.status, fetched.length, fetched.headers["content-type"], body) == (200, 4, "image/png", b"\x89PNG")
    assert fetched.url == f"{server.url}?a=b"
    assert server.requests[0].startswith(b"GET /hook?a=b HTTP/1.1\r\n")
    assert b"accept-encoding: identity\r\n" in server.requests[0].lower()


async def test_another_status_is_the_callers_to_judge() -> None:
    async with serving(replying(b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno")) as server:
        assert await fetch(server.url) == (404, b"no")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::1]", "[::ffff:7f00:1]"])
async def test_an_inside_host_is_not_even_connected_to(host: str) -> None:
    async with serving(FILE) as canary:
        failed = await failure(f"http://{host}:{canary.port}/", allow_networks=())

    assert failed.trouble is Trouble.TARGET_FORBIDDEN
    assert not failed.may_help
    assert canary.accepts == 0


async def test_a_redirect_is_followed_to_a_permitted_place() -> None:
    async with serving(FILE) as server, serving(redirecting("/next?x=1#part", server.url)) as first:
        assert await fetch(first.url) == (200, b"\x89PNG")

    assert first.requests[1].startswith(b"GET /next?x=1 HTTP/1.1\r\n")
    assert server.accepts == 1


# Only this address is permitted; the canary listens on another one of loopback.
OUTSIDE = "127.0.0.2"
ONLY_OUTSIDE = (ip_network(OUTSIDE),)


@pytest.mark.parametrize("host", ["127.0.0.1", "0x7f.1", "017700000001", "localhost", "[::ffff:7f00:1]", "[::1]"])
async def test_a_redirect_to_an_inside_host_is_not_even_connected_to(host: str) -> None:
    async with (
        serving(FILE) as canary,
        serving(redirecting(f"http://{host}:{canary.port}/"), host=OUTSIDE) as first,
    ):
        failed = await failure(first.url, allow_networks=ONLY_OUTSIDE)

    assert failed.trouble is Trouble.TARGET_FORBIDDEN
    assert not failed.may_help
    assert (first.accepts, canary.accepts) == (1, 0)


async def test_a_name_that_moves_inside_between_two_hops_is_not_connected_to() -> None:
    resolver = Answers([OUTSIDE], ["127.0.0.1"])
    async with (
        serving(FILE) as canary,
        serving(redirecting(f"http://files.example:{canary.port}/"), host=OUTSIDE) as first,
    ):
        failed = await failure(f"http://files.example:{first.port}/", allow_networks=ONLY_OUTSIDE, resolve=resolver)

    assert failed.trouble is Trouble.TARGET_FORBIDDEN
    assert (first.accepts, canary.accepts) == (1, 0)
    assert resolver.asked == ["files.example", "files.example"]


async def test_more_redirects_than_allowed_are_a_failure() -> None:
    async with serving(redirecting(*["/again"] * 10)) as server:
        failed = await failure(server.url)

    assert f"more than {MAX_REDIRECTS}" in failed.detail
    assert len(server.requests) == MAX_REDIRECTS + 1


@pytest.mark.parametrize("location", ["gopher://127.0.0.1/", "file:///etc/passwd", "http://a@127.0.0.1/", "http://["])
async def test_a_redirect_to_what_is_no_target_is_refused(location: str) -> None:
    async with serving(redirecting(location)) as server:
        failed = await failure(server.url)

    assert failed.trouble is Trouble.TARGET_FORBIDDEN


async def test_a_redirect_out_of_https_is_refused() -> None:
    authority = trustme.CA()
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("files.example").configure_cert(tls)

    async with serving(FILE) as canary, serving(redirecting(canary.url), tls=tls) as server:
        url = f"https://files.example:{server.port}/"
        failed = await failure(url, resolve=Answers(["127.0.0.1"]), ssl_context=trusting)

    assert failed.trouble is Trouble.TARGET_FORBIDDEN
    assert "https" in failed.detail
    assert (server.accepts, canary.accepts) == (1, 0)


async def test_a_length_over_the_limit_is_refused_before_a_byte_is_read() -> None:
    async with serving(replying(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n12345")) as server:
        with pytest.raises(FetchTooLarge):
            async with safe_get(server.url, max_bytes=4, deadline_s=5, allow_networks=LOOPBACK):
                pytest.fail("the limit is exceeded")


async def test_a_body_without_a_length_is_left_at_the_limit() -> None:
    sent = 0

    async def pour(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"x" * 65_536)
            await writer.drain()
            sent += 65_536

    async with serving(pour) as server:
        failed = await failure(server.url, max_bytes=100_000)

    assert isinstance(failed, FetchTooLarge)
    assert not failed.may_help
    assert sent < 32 * 1024 * 1024  # what fits into the sockets' buffers, not what the deadline allows


async def test_a_packed_body_is_refused_instead_of_kept_as_the_file() -> None:
    packed = gzip.compress(b"\0" * 1_000_000)
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(packed)}\r\n\r\n".encode()

    async with serving(replying(head + packed)) as server:
        failed = await failure(server.url, max_bytes=10_000)

    assert failed.trouble is Trouble.BAD_ANSWER


@pytest.mark.parametrize(
    "start",
    [b"HTTP/1.1 200 OK\r\nX-Slow: ", b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n"],
    ids=["headers", "body"],
)
async def test_what_drips_ends_with_the_deadline(start: bytes) -> None:
    async def drip(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(start)
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.02)  # the sender's own slowness; nothing waits for it

    async with serving(drip) as server:
        failed = await failure(server.url, deadline_s=0.3)

    assert failed.trouble is Trouble.TIMEOUT
    assert failed.may_help


async def test_the_deadline_does_not_interrupt_what_the_caller_does() -> None:
    async def headers_only(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")
        await reader.read()

    async with (
        serving(headers_only) as server,
        safe_get(server.url, max_bytes=4, deadline_s=0.2, allow_networks=LOOPBACK) as fetched,
    ):
        await asyncio.sleep(0.3)  # past the deadline: the next read is refused, this is not
        with pytest.raises(FetchFailed) as failed:
            await anext(aiter(fetched.chunks))

    assert failed.value.trouble is Trouble.TIMEOUT


async def test_a_body_that_breaks_off_is_no_file() -> None:
    async def half(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        await writer.drain()
        writer.close()
        raise ConnectionResetError

    async with serving(half) as server:
        failed = await failure(server.url)

    assert failed.trouble in {Trouble.BAD_ANSWER, Trouble.CONNECTION_LOST}
    assert failed.may_help


async def test_an_error_of_the_caller_passes_and_ends_the_connection() -> None:
    async with serving(FILE) as server:
        with pytest.raises(ZeroDivisionError):
            async with safe_get(server.url, max_bytes=4, deadline_s=5, allow_networks=LOOPBACK):
                raise ZeroDivisionError

    assert server.accepts == 1


async def test_nothing_of_our_network_is_told() -> None:
    async with serving(FILE) as gone:
        pass

    for url in (gone.url, "http://nobody.invalid/", "http://10.0.0.1/"):
        failed = await failure(url)
        assert not any(character.isdigit() for character in failed.detail)
