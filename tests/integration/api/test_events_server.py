"""Event streams behind a real uvicorn: a cut, a stop, a hundred at once, tickets that any process takes once."""

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path

import httpx
import pytest

from api.event_feed import MAX_STREAMS_PER_KEY
from shared.db.pool import Connection, connect
from shared.domain.ids import DEFAULT_TENANT
from tests.integration.api.conftest import ADMIN_KEY
from tests.integration.api.event_listener import PATIENCE_S, Parser, Sent, write_event
from tests.integration.api.test_server import Server, serving

_KEY = {"Authorization": f"Bearer {ADMIN_KEY}"}


class Stream:
    """One open answer of the server."""

    def __init__(self, answer: httpx.Response) -> None:
        self.answer = answer
        self.parser = Parser()
        self._bytes = answer.aiter_raw()
        self._events: list[Sent] = []

    async def next_ids(self, count: int) -> list[str]:
        while len(self._events) < count:
            self._events += self.parser.feed(await self._piece())
        ids = [event.id for event in self._events[:count]]
        del self._events[:count]
        return ids

    async def ends_cleanly(self) -> bool:
        """Whether the server ends the answer as HTTP has it, rather than by closing the connection."""
        try:
            while True:
                await self._piece()
        except StopAsyncIteration:
            return True
        except httpx.RemoteProtocolError:
            return False

    async def _piece(self) -> bytes:
        async with asyncio.timeout(PATIENCE_S):
            return await anext(self._bytes)


@pytest.fixture
def server(database_url: str, tmp_path: Path) -> Iterator[Server]:
    with serving(database_url, tmp_path) as server:
        yield server


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    async with httpx.AsyncClient(limits=limits, timeout=PATIENCE_S, trust_env=False) as client:
        yield client


@asynccontextmanager
async def following(
    client: httpx.AsyncClient, server: Server, query: str = "", headers: Mapping[str, str] | None = None
) -> AsyncIterator[Stream]:
    url = f"{server.url}/events/stream?{query}"
    async with client.stream("GET", url, headers=_KEY if headers is None else headers) as answer:
        yield Stream(answer)


async def test_a_client_that_is_cut_off_goes_on_where_it_was(
    server: Server, client: httpx.AsyncClient, database: Connection
) -> None:
    made: list[str] = []
    seen: list[str] = []
    headers = dict(_KEY)
    for _ in range(4):
        async with following(client, server, headers=headers) as stream:
            assert stream.answer.headers["x-accel-buffering"] == "no"
            # Three are told, and two more are written that this connection never reads.
            made += [await write_event(database) for _ in range(3)]
            seen += await stream.next_ids(len(made) - len(seen))
            made += [await write_event(database) for _ in range(2)]
        headers["Last-Event-ID"] = seen[-1]

    async with following(client, server, headers=headers) as stream:
        seen += await stream.next_ids(len(made) - len(seen))
    assert seen == made


async def test_what_commits_late_is_told_in_its_place(
    server: Server, client: httpx.AsyncClient, database: Connection, database_url: str
) -> None:
    async with following(client, server) as stream, connect(database_url) as slow:
        transaction = slow.transaction()
        await transaction.start()
        lower = await write_event(slow)
        higher = await write_event(database)
        between = (await client.get(f"{server.url}/events", headers=_KEY)).json()
        await transaction.commit()

        assert between["data"] == []
        assert await stream.next_ids(2) == [lower, higher]


async def test_a_hundred_streams_are_told_everything_once_and_end_with_the_process(
    server: Server, client: httpx.AsyncClient, database: Connection
) -> None:
    async with AsyncExitStack() as held:
        streams = await asyncio.gather(
            *(held.enter_async_context(following(client, server, f"type={type_}")) for type_ in _TYPES)
        )
        made = {type_: [await write_event(database, None, type_) for _ in range(10)] for type_ in set(_TYPES)}

        told = await asyncio.gather(*(stream.next_ids(10) for stream in streams))
        assert told == [made[type_] for type_ in _TYPES]
        # Streams hold no connection to Postgres, so everything else goes on.
        assert (await client.get(f"{server.url}/connections", headers=_KEY)).status_code == 200

        server.process.send_signal(signal.SIGTERM)
        assert all(await asyncio.gather(*(stream.ends_cleanly() for stream in streams)))
    assert server.process.wait(timeout=PATIENCE_S) in {0, -signal.SIGTERM}


async def test_a_client_that_stopped_reading_does_not_hold_up_the_end(
    database_url: str, tmp_path: Path, client: httpx.AsyncClient, database: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As `./zh api` starts it.
    monkeypatch.setenv("UVICORN_TIMEOUT_GRACEFUL_SHUTDOWN", "1")
    with (
        serving(database_url, tmp_path) as server,
        closing(socket.create_connection(("127.0.0.1", server.port))) as stuck,
    ):
        stuck.sendall(
            f"GET /events/stream HTTP/1.1\r\nHost: a\r\nAuthorization: {_KEY['Authorization']}\r\n\r\n".encode()
        )
        async with following(client, server) as stream:
            # More than the sockets on the way take in.
            await database.execute(
                "INSERT INTO events (tenant_id, type, category, severity, payload, fan_out) "
                "SELECT $1, 'message.sent', 'message', 'info', jsonb_build_object('text', repeat('x', 60000)), false "
                "FROM generate_series(1, 200)",
                DEFAULT_TENANT,
            )
            assert len(set(await stream.next_ids(200))) == 200

        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(timeout=PATIENCE_S) in {0, -signal.SIGTERM}


_TYPES = ["message.sent", "message.read", "session.status", "queue.backlog"] * 25


async def test_a_key_has_so_many_streams_and_no_more(server: Server, client: httpx.AsyncClient) -> None:
    async with AsyncExitStack() as held:
        for _ in range(MAX_STREAMS_PER_KEY // 50):
            await asyncio.gather(*(held.enter_async_context(following(client, server)) for _ in range(50)))
        refused = await client.get(f"{server.url}/events/stream", headers=_KEY)

    assert (refused.status_code, refused.json()["code"]) == (429, "RATE_LIMITED")
    assert int(refused.headers["retry-after"]) > 0


async def test_a_ticket_of_one_process_opens_one_stream_at_another(
    server: Server,
    client: httpx.AsyncClient,
    database: Connection,
    database_url: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("another")
    with serving(database_url, folder) as another:
        made = (await client.post(f"{server.url}/events/ticket", headers=_KEY)).json()
        event_id = await write_event(database)
        query = f"ticket={made['ticket']}&after={made['cursor']}"
        async with following(client, another, query, headers={}) as stream:
            assert await stream.next_ids(1) == [event_id]
            for process in (server, another):
                refused = await client.get(f"{process.url}/events/stream?{query}")
                assert (refused.status_code, refused.json()["code"]) == (401, "UNAUTHORIZED")

    assert made["ticket"] not in (folder / "log").read_text()
