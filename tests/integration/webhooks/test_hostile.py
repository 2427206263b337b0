"""Receivers that fail in every way at once, beside a good one; and one that fails for an hour."""

import asyncio
import gzip
import json
import socket
import ssl
import struct
from collections import defaultdict
from collections.abc import Mapping
from contextlib import AsyncExitStack

import pytest
import trustme
from standardwebhooks import Webhook

from functions.resources import open_resources
from shared.db.pool import Pool
from shared.domain.webhook import fan_out_job
from shared.queues.drain import Drain
from shared.queues.outage import Outage
from shared.queues.runtime import Queues
from shared.queues.sweeper import Sweeper
from shared.settings import load
from tests.integration.webhooks.conftest import QUEUE, WORK, Desk, drain, enqueue
from tests.integration.webhooks.servers import OK, Play, replying, serving

EVENTS = 6
BOMB = gzip.compress(b"\0" * 5_000_000)


async def hang(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def close(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()
    raise ConnectionResetError


async def reset(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    raw: socket.socket = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
    raise ConnectionResetError


def dripping(start: bytes) -> Play:
    async def drip(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(start)
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.05)  # the receiver's own slowness; nothing waits for it

    return drip


async def pour(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        writer.write(b"\0" * 65_536)
        await writer.drain()


# What each does, and what its deliveries say after their first try; None: it was taken.
HOSTILE: Mapping[str, tuple[Play, str | None]] = {
    "answers 500": (replying(b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n"), "WEBHOOK_REFUSED"),
    "hangs": (hang, "WEBHOOK_TIMEOUT"),
    "drips its headers": (dripping(b"HTTP/1.1 200 OK\r\nX-Slow: "), "WEBHOOK_TIMEOUT"),
    "drips its body": (dripping(b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n"), None),
    "pours without end": (pour, None),
    "is a bomb": (
        replying(f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(BOMB)}\r\n\r\n".encode() + BOMB),
        None,
    ),
    "redirects inside": (
        replying(
            b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/latest/meta-data/\r\nContent-Length: 0\r\n\r\n"
        ),
        "WEBHOOK_REDIRECTED",
    ),
    "closes": (close, "WEBHOOK_BAD_ANSWER"),
    "closes in its headers": (replying(b"HTTP/1.1 200 OK\r\nX-Half: "), "WEBHOOK_TIMEOUT"),
    "resets": (reset, "WEBHOOK_CONNECTION_LOST"),
    "is no HTTP": (replying(b"SSH-2.0-OpenSSH_9.9\r\n\r\n"), "WEBHOOK_BAD_ANSWER"),
    "has huge headers": (replying(b"HTTP/1.1 200 OK\r\nX-Huge: " + b"x" * 300_000), "WEBHOOK_BAD_ANSWER"),
    "sends binary": (
        replying(b"HTTP/1.1 400 No\r\nContent-Length: 6\r\n\r\n\0\xff\xfe\x80<b"),
        "WEBHOOK_REFUSED",
    ),
}


async def test_every_kind_of_bad_receiver_is_told_and_none_delays_a_good_one(
    desk: Desk, pool: Pool, queues: Queues, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZAPHUB_WEBHOOK_TIMEOUT_S", "4")
    load.cache_clear()
    is_done, names = asyncio.Event(), dict[object, str]()

    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await OK(reader, writer)
        if len(good.requests) == EVENTS:
            is_done.set()

    async with AsyncExitStack() as stack, await Queues.open(load()) as hasty:
        for name, (play, _) in HOSTILE.items():
            server = await stack.enter_async_context(serving(play))
            names[(await desk.endpoint(server.url, events=["message.*"])).endpoint.id] = name
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        trustme.CA().issue_cert("127.0.0.1").configure_cert(tls)
        foreign = await stack.enter_async_context(serving(tls=tls))
        made = await desk.endpoint(foreign.url.replace("http:", "https:"), events=["message.*"])
        names[made.endpoint.id] = "has a foreign certificate"
        good = await stack.enter_async_context(serving(count))
        secret = (await desk.endpoint(good.url, events=["message.*"])).new_secret

        for _ in range(EVENTS):
            await desk.event()
        await enqueue(hasty, fan_out_job(desk.connection_id))
        resources = await stack.enter_async_context(open_resources(hasty))
        draining = Drain(hasty, {QUEUE: WORK}, resources, slots={QUEUE: 3}, worker="test")
        async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
            working = tasks.create_task(draining.until_idle())
            await is_done.wait()
            # The good one has all of its webhooks while those that hang are still at their first.
            timeouts = await pool.fetchval("SELECT count(*) FROM webhook_attempts WHERE error LIKE 'WEBHOOK_TIMEOUT%'")
            await working

    assert timeouts == 0
    assert secret is not None
    for request in good.requests:
        head, _, body = request.partition(b"\r\n\r\n")
        Webhook(secret).verify(body, dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:]))
    told = defaultdict(set)
    rows = await pool.fetch(
        "SELECT d.endpoint_id, split_part(a.error, ':', 1) AS code, length(a.response) AS kept "
        "FROM webhook_attempts a JOIN webhook_deliveries d ON d.id = a.delivery_id WHERE d.endpoint_id = ANY($1)",
        list(names),
    )
    for row in rows:
        told[names[row["endpoint_id"]]].add(row["code"])
    expected = {name: {code} for name, (_, code) in HOSTILE.items()}
    assert told == expected | {"has a foreign certificate": {"WEBHOOK_TLS_FAILED"}}
    assert max(row["kept"] or 0 for row in rows) == 2048
    assert not foreign.requests
    # What was refused waits for its next try; nothing is lost.
    assert (
        await pool.fetchval("SELECT count(*) FROM webhook_deliveries WHERE status NOT IN ('delivered', 'pending')") == 0
    )


async def pass_time(pool: Pool, seconds: float) -> None:
    """Everything that waits for a moment is so much nearer to it."""
    shift = "- $1::float8 * interval '1 s'"
    await pool.execute(f"UPDATE jobs SET run_at = run_at {shift} WHERE state = 'delayed'", seconds)
    await pool.execute(
        f"UPDATE webhook_circuits SET failing_since = failing_since {shift}, probe_at = probe_at {shift}", seconds
    )


async def next_moment_s(pool: Pool) -> float:
    """Seconds until the next try falls due, or an open circuit's time comes; infinity when nothing waits."""
    seconds: float | None = await pool.fetchval(
        "SELECT extract(epoch FROM min(at) - now())::float8 FROM ("
        " SELECT run_at AS at FROM jobs WHERE state = 'delayed' UNION ALL SELECT probe_at FROM webhook_circuits) m"
        " WHERE at > now()"
    )
    return float("inf") if seconds is None else seconds + 0.01


async def sweep_and_drain(pool: Pool, queues: Queues) -> None:
    """What a worker does: promote what is due, let circuits be tried, and work until nothing is left."""
    await sweep(pool, queues)
    async with asyncio.TaskGroup() as tasks:
        working = tasks.create_task(drain(queues))
        while not working.done():  # what falls due meanwhile is the sweep's to promote
            await asyncio.wait([working], timeout=0.1)
            await sweep(pool, queues)


async def sweep(pool: Pool, queues: Queues) -> None:
    async with pool.acquire() as connection:
        await Sweeper(queues, {QUEUE: WORK}, outage=Outage("test"), on_turn=lambda: None).sweep_once(connection)


async def live(pool: Pool, queues: Queues, *, for_s: float) -> None:
    """Let that much time pass, and do all that falls due in it, at its time."""
    lived_s = 0.0
    while lived_s < for_s:
        step_s = min(await next_moment_s(pool), for_s - lived_s)
        await pass_time(pool, step_s)
        lived_s += step_s
        await sweep_and_drain(pool, queues)


async def test_a_receiver_that_fails_for_an_hour_is_asked_rarely_and_gets_everything_afterwards(
    desk: Desk, pool: Pool, queues: Queues
) -> None:
    is_well = False
    refuse = replying(b"HTTP/1.1 503 Down\r\nContent-Length: 0\r\n\r\n")

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await (OK if is_well else refuse)(reader, writer)

    async with serving(play) as server:
        made = await desk.endpoint(server.url)
        for _ in range(40):
            await desk.event()
        await enqueue(queues, fan_out_job(desk.connection_id))
        await drain(queues)
        await live(pool, queues, for_s=3600)
        asked = len(server.requests)
        shown = await pool.fetchrow("SELECT enabled FROM webhook_endpoints WHERE id = $1", made.endpoint.id)
        waiting = await pool.fetchval("SELECT count(*) FROM webhook_deliveries WHERE status = 'pending'")

        is_well = True
        await live(pool, queues, for_s=300)
        after_five_minutes = await pool.fetchval("SELECT count(*) FROM webhook_deliveries WHERE status = 'delivered'")
        await live(pool, queues, for_s=7200 * 1.2)

    # Ten tries open the circuit, then one is tried after 10, 20, 40, 80 and 160 s, and every 300 s.
    assert 20 <= asked <= 10 + 2 + 5 + 12
    assert shown is not None
    assert shown["enabled"]
    assert waiting == 40
    assert after_five_minutes >= 10, "the first success lets those through that wait for no try of their own"
    assert await pool.fetchval("SELECT count(*) FROM webhook_deliveries WHERE status = 'delivered'") == 40
    assert made.new_secret is not None
    bodies, tries = defaultdict(set), defaultdict(list)
    for request in server.requests:
        head, _, body = request.partition(b"\r\n\r\n")
        headers = {
            name.lower(): value for name, value in (line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
        }
        Webhook(made.new_secret).verify(body, headers)
        assert json.loads(body)["id"] == headers["webhook-id"]
        bodies[headers["webhook-id"]].add(body)
        tries[headers["webhook-id"]].append(int(headers["x-zaphub-attempt"]))
    assert [len(one) for one in bodies.values()] == [1] * 40, "the same bytes on every try"
    assert all(one == list(range(1, len(one) + 1)) for one in tries.values())
