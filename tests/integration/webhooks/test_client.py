"""The safe client against real sockets: whom it reaches, and what a bad receiver can do to it."""

import asyncio
import gzip
import socket
import ssl
import struct
from collections.abc import Sequence

import httpcore
import pytest
import trustme

from shared.egress import dial
from shared.egress.resolver import Address
from shared.egress.target import Rule
from shared.webhooks.client import KEEP_BYTES, Answered, Exchanged, Failed, FailureKind, SafeClient
from tests.integration.webhooks.servers import LOOPBACK, OK, Answers, Play, read_request, replying, serving

DEADLINE_S = 0.3


async def post(client: SafeClient, url: str, body: bytes = b"{}") -> Exchanged:
    return await client.post(url, headers={"Content-Type": "application/json"}, body=body)


async def post_to(play: Play, *, timeout_s: float = 5) -> Exchanged:
    async with serving(play) as server, SafeClient(Rule(allow=LOOPBACK), timeout_s=timeout_s) as client:
        return await post(client, server.url)


# ---- whom it reaches


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f.1", "017700000001", "0", "[::1]", "[::ffff:7f00:1]"]
)
async def test_loopback_is_not_even_connected_to_however_it_is_spelled(host: str) -> None:
    async with serving() as canary, SafeClient(Rule(), timeout_s=5) as client:
        exchanged = await post(client, f"http://{host}:{canary.port}/")

    assert isinstance(exchanged, Failed)
    assert exchanged.kind is FailureKind.TARGET_FORBIDDEN
    assert canary.accepts == 0


async def test_the_same_canary_is_reached_when_its_network_is_allowed(client: SafeClient) -> None:
    async with serving() as canary:
        exchanged = await post(client, canary.url)

    assert isinstance(exchanged, Answered)
    assert canary.accepts == 1


async def test_a_name_that_changes_from_public_to_loopback_after_the_door_is_not_connected_to() -> None:
    resolver = Answers(["8.8.8.8"], ["127.0.0.1"])
    rule = Rule(resolve=resolver)

    async with serving() as canary, SafeClient(rule, timeout_s=5) as client:
        target = await rule.check(f"http://rebind.example:{canary.port}/")
        exchanged = await post(client, target.url)

    assert isinstance(exchanged, Failed)
    assert exchanged.kind is FailureKind.TARGET_FORBIDDEN
    assert canary.accepts == 0


async def test_the_address_that_was_judged_is_the_one_connected_to() -> None:
    resolver = Answers(["127.0.0.1"], ["10.0.0.1"])

    async with serving() as server, SafeClient(Rule(allow=LOOPBACK, resolve=resolver), timeout_s=5) as client:
        exchanged = await post(client, f"http://hook.example:{server.port}/path?query")

    assert isinstance(exchanged, Answered)
    assert resolver.asked == ["hook.example"]
    assert server.requests[0].startswith(b"POST /path?query HTTP/1.1\r\n")
    assert f"host: hook.example:{server.port}\r\n".encode() in server.requests[0].replace(b"Host:", b"host:")


async def test_the_next_address_is_tried_when_the_first_refuses() -> None:
    resolver = Answers(["127.0.0.2", "127.0.0.1"])

    async with serving() as server, SafeClient(Rule(allow=LOOPBACK, resolve=resolver), timeout_s=5) as client:
        exchanged = await post(client, f"http://hook.example:{server.port}/")

    assert isinstance(exchanged, Answered)


async def test_a_redirect_is_the_answer_and_is_not_followed(client: SafeClient) -> None:
    async with serving() as canary:
        to_canary = f"HTTP/1.1 302 Found\r\nLocation: {canary.url}\r\nContent-Length: 0\r\n\r\n".encode()
        async with serving(replying(to_canary)) as server:
            exchanged = await post(client, server.url)

    assert isinstance(exchanged, Answered)
    assert exchanged.status == 302
    assert canary.accepts == 0


async def test_a_proxy_in_the_environment_is_not_used(client: SafeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving() as proxy, serving() as server:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        await post(client, server.url)

    assert (proxy.accepts, server.accepts) == (0, 1)


async def test_a_cookie_is_not_kept_for_the_next_webhook(client: SafeClient) -> None:
    reply = b"HTTP/1.1 200 OK\r\nSet-Cookie: track=1\r\nContent-Length: 0\r\n\r\n"

    async with serving(replying(reply)) as server:
        await post(client, server.url)
        await post(client, server.url)

    assert len(server.requests) == 2
    assert b"track" not in server.requests[1]


async def test_a_good_receivers_connection_is_used_again(client: SafeClient) -> None:
    async with serving() as server:
        for _ in range(3):
            await post(client, server.url)

    assert (server.accepts, len(server.requests)) == (1, 3)


# ---- TLS


def tls_of(authority: trustme.CA, host: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(host).configure_cert(context)
    return context


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


async def test_tls_is_verified_against_the_name_and_not_the_address() -> None:
    authority = trustme.CA()
    rule = Rule(allow=LOOPBACK, resolve=Answers(["127.0.0.1"]))

    async with (
        serving(tls=tls_of(authority, "hook.example")) as server,
        SafeClient(rule, timeout_s=5, ssl_context=trusting(authority)) as client,
    ):
        right = await post(client, f"https://hook.example:{server.port}/")
        wrong = await post(client, f"https://other.example:{server.port}/")

    assert isinstance(right, Answered)
    assert isinstance(wrong, Failed)
    assert wrong.kind is FailureKind.TLS
    assert len(server.requests) == 1


async def test_a_certificate_that_nobody_vouches_for_fails() -> None:
    rule = Rule(allow=LOOPBACK, resolve=Answers(["127.0.0.1"]))

    async with serving(tls=tls_of(trustme.CA(), "hook.example")) as server, SafeClient(rule, timeout_s=5) as client:
        exchanged = await post(client, f"https://hook.example:{server.port}/")

    assert isinstance(exchanged, Failed)
    assert exchanged.kind is FailureKind.TLS


# ---- what a bad receiver can do


async def test_a_gzip_bomb_is_kept_packed_and_short() -> None:
    bomb = gzip.compress(b"\0" * 20_000_000)
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(bomb)}\r\n\r\n".encode()

    async with serving(replying(head + bomb)) as server, SafeClient(Rule(allow=LOOPBACK), timeout_s=5) as client:
        exchanged = await post(client, server.url)

    assert isinstance(exchanged, Answered)
    assert exchanged.body == bomb[:KEEP_BYTES]
    assert b"accept-encoding: identity" in server.requests[0].lower()


async def test_an_endless_body_is_left_after_64_kb() -> None:
    sent = 0

    async def pour(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"x" * 65_536)
            await writer.drain()
            sent += 65_536

    exchanged = await post_to(pour)

    assert isinstance(exchanged, Answered)
    assert exchanged.status == 200
    assert exchanged.body == b"x" * KEEP_BYTES
    assert sent < 32 * 1024 * 1024  # what fits into the sockets' buffers, not what the deadline allows


def dripping(start: bytes) -> Play:
    async def drip(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(start)
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.02)  # the receiver's own slowness; nothing waits for it

    return drip


async def test_headers_that_drip_end_with_the_deadline() -> None:
    exchanged = await post_to(dripping(b"HTTP/1.1 200 OK\r\nX-Slow: "), timeout_s=DEADLINE_S)

    assert isinstance(exchanged, Failed)
    assert exchanged.kind is FailureKind.TIMEOUT
    assert exchanged.duration_ms < 5000


async def test_a_body_that_drips_ends_with_the_deadline_and_leaves_the_status() -> None:
    exchanged = await post_to(dripping(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n"), timeout_s=DEADLINE_S)

    assert isinstance(exchanged, Answered)
    assert exchanged.status == 200
    assert exchanged.duration_ms >= DEADLINE_S * 1000 - 50
    assert set(exchanged.body) == set(b"x")


async def test_a_body_that_drips_has_a_time_of_its_own_and_leaves_the_slot_to_others() -> None:
    answer = dripping(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n")

    async with (
        asyncio.timeout(30),
        serving(answer) as server,
        SafeClient(Rule(allow=LOOPBACK), timeout_s=300, body_s=0.1) as client,
    ):
        exchanged = await post(client, server.url)

    assert isinstance(exchanged, Answered)
    assert exchanged.status == 200


async def test_a_handshake_that_hangs_ends_with_the_deadline() -> None:
    # Nobody accepts: the kernel takes the connection, and what is sent until its buffers are full.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        async with SafeClient(Rule(allow=LOOPBACK), timeout_s=DEADLINE_S) as client:
            exchanged = await post(client, f"https://127.0.0.1:{silent.getsockname()[1]}/")

    assert isinstance(exchanged, Failed)
    assert exchanged.kind is FailureKind.TIMEOUT


async def test_a_connection_that_is_never_answered_ends_with_the_deadline() -> None:
    class Silence(httpcore.AsyncMockBackend):
        async def connect_tcp(self, *_: object, **__: object) -> httpcore.AsyncNetworkStream:
            return await asyncio.Future()

    async with SafeClient(Rule(allow=LOOPBACK), timeout_s=DEADLINE_S, backend=Silence([])) as client:
        exchanged = await post(client, "http://127.0.0.1:8009/")

    assert isinstance(exchanged, Failed)
    assert exchanged.kind is FailureKind.TIMEOUT
    assert not exchanged.is_ours


async def test_a_name_server_that_never_answers_is_our_own_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(_host: str, _port: int) -> Sequence[Address]:
        return await asyncio.Future()

    monkeypatch.setattr(dial, "RESOLVE_TIMEOUT_S", 0.01)
    async with SafeClient(Rule(resolve=hang), timeout_s=20) as client:
        exchanged = await post(client, "https://hook.example/")

    assert isinstance(exchanged, Failed)
    assert (exchanged.kind, exchanged.is_ours) == (FailureKind.NAME_UNRESOLVED, True)


async def test_a_receiver_that_reads_nothing_ends_with_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        async with SafeClient(Rule(allow=LOOPBACK), timeout_s=DEADLINE_S) as client:
            exchanged = await post(client, f"http://127.0.0.1:{silent.getsockname()[1]}/", body=b"x" * 20_000_000)

    assert isinstance(exchanged, Failed)
    assert exchanged.kind is FailureKind.TIMEOUT


async def test_a_receiver_that_never_answers_ends_with_the_deadline() -> None:
    async def hang(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read()

    exchanged = await post_to(hang, timeout_s=DEADLINE_S)

    assert isinstance(exchanged, Failed)
    assert exchanged.kind is FailureKind.TIMEOUT


async def test_a_flood_of_interim_answers_ends_with_the_deadline() -> None:
    async def flood(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b"HTTP/1.1 102 Processing\r\n\r\n")
            await writer.drain()

    exchanged = await post_to(flood, timeout_s=DEADLINE_S)

    assert isinstance(exchanged, Failed)
    assert exchanged.kind is FailureKind.TIMEOUT


async def test_a_reset_is_a_lost_connection() -> None:
    async def reset(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raw: socket.socket = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
        raise ConnectionResetError

    exchanged = await post_to(reset)

    assert isinstance(exchanged, Failed)
    assert exchanged.kind is FailureKind.CONNECTION_LOST


async def close(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()
    raise ConnectionResetError


@pytest.mark.parametrize(
    "play",
    [
        close,
        replying(b"SSH-2.0-OpenSSH_9.9\r\n\r\n"),
        replying(b"HTTP/1.1 200 OK\r\nX-Huge: " + b"x" * 300_000),
        replying(b"HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n"),
        replying(b"HTTP/1.1 9999 OK\r\n\r\n"),
    ],
    ids=["closes at once", "is not HTTP", "huge headers", "NUL in a header", "a status out of range"],
)
async def test_what_is_no_whole_answer_is_a_failure(play: Play) -> None:
    exchanged = await post_to(play)

    assert isinstance(exchanged, Failed)
    assert exchanged.kind is FailureKind.BAD_ANSWER


async def test_nobody_listening_is_unreachable_and_an_unknown_name_is_unresolved(client: SafeClient) -> None:
    async with serving() as gone:
        pass

    refused = await post(client, gone.url)
    unknown = await post(client, "http://nobody.invalid/")

    assert isinstance(refused, Failed)
    assert refused.kind is FailureKind.UNREACHABLE
    assert isinstance(unknown, Failed)
    assert unknown.kind is FailureKind.NAME_UNRESOLVED


async def test_a_receiver_that_answers_before_it_read_the_body_is_answered(client: SafeClient) -> None:
    async def early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await OK(reader, writer)

    async with serving(early) as server:
        exchanged = await post(client, server.url, body=b"x" * 100_000)

    assert isinstance(exchanged, Answered)


async def test_a_cancelled_exchange_passes_the_cancellation_on_and_spoils_no_other(client: SafeClient) -> None:
    started = asyncio.Event()

    async def hang(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        started.set()
        await read_request(reader)

    async with serving(hang) as slow, serving() as good:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(post(client, slow.url))
            await started.wait()
            task.cancel()
        exchanged = await post(client, good.url)

    assert task.cancelled()
    assert isinstance(exchanged, Answered)


async def test_a_hundred_slow_receivers_do_not_hold_up_a_good_one() -> None:
    everybody = asyncio.Event()
    arrived = 0

    async def hang(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        nonlocal arrived
        arrived += 1
        if arrived == 100:
            everybody.set()
        await reader.read()

    async with (
        serving(hang) as slow,
        serving() as good,
        SafeClient(Rule(allow=LOOPBACK), timeout_s=20) as client,
        asyncio.TaskGroup() as group,
    ):
        tasks = [group.create_task(post(client, slow.url)) for _ in range(100)]
        await everybody.wait()
        exchanged = await post(client, good.url)
        for task in tasks:
            task.cancel()

    assert isinstance(exchanged, Answered)
    assert exchanged.duration_ms < 5000
