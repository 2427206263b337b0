"""Clients of the event log for tests: one that follows the app in this process, and one that parses what any sends."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx
from starlette.types import ASGIApp, Message

from shared.db.pool import Connection
from shared.domain.ids import DEFAULT_TENANT
from tests.integration.api.conftest import ADMIN_KEY

PATIENCE_S = 20


@dataclass(frozen=True, slots=True)
class Sent:
    """A server-sent event."""

    id: str
    event: str
    data: dict[str, Any]


class Parser:
    """Turns the bytes of a stream into events, as they come; `comments` and `retry` are what else there was."""

    def __init__(self) -> None:
        self._rest = ""
        self.comments: list[str] = []
        self.retry: str | None = None

    def feed(self, data: bytes) -> list[Sent]:
        *blocks, self._rest = (self._rest + data.decode()).split("\n\n")
        return [sent for block in blocks if (sent := self._event(block))]

    def _event(self, block: str) -> Sent | None:
        fields: dict[str, str] = {}
        for line in block.split("\n"):
            name, _, value = line.partition(":")
            if not name:
                self.comments.append(value.strip())
            fields[name] = value.removeprefix(" ")
        self.retry = fields.get("retry", self.retry)
        return Sent(fields["id"], fields["event"], json.loads(fields["data"])) if "data" in fields else None


class Listener:
    """What the app answers to one request, piece by piece; it takes nothing while `is_taking` is clear."""

    def __init__(self) -> None:
        self.parser = Parser()
        self.is_taking = asyncio.Event()
        self.is_taking.set()
        self.taken_bytes = 0
        self.largest_bytes = 0
        self.status = 0
        self.headers = httpx.Headers()
        self.has_ended = False
        self._left = asyncio.Event()
        self._arrived: asyncio.Queue[Message] = asyncio.Queue()
        self._events: list[Sent] = []

    async def receive(self) -> Message:
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        await self.is_taking.wait()
        self.taken_bytes += len(message.get("body", b""))
        self.largest_bytes = max(self.largest_bytes, len(message.get("body", b"")))
        self._arrived.put_nowait(message)

    def leave(self) -> None:
        self._left.set()

    async def opened(self) -> None:
        """Wait for the answer's head and the first bytes."""
        while self.parser.retry is None and not self.has_ended:
            await self._take()

    async def next(self) -> Sent:
        """The next event. Raises TimeoutError when none comes."""
        while not self._events:
            assert not self.has_ended, "the stream ended"
            await self._take()
        return self._events.pop(0)

    async def next_ids(self, count: int) -> list[str]:
        return [(await self.next()).id for _ in range(count)]

    async def comment(self) -> str:
        while not self.parser.comments:
            await self._take()
        return self.parser.comments.pop(0)

    async def rest(self) -> list[Sent]:
        """Wait for the end of the answer; what came until then."""
        while not self.has_ended:
            await self._take()
        return self._events

    async def _take(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            message = await self._arrived.get()
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = httpx.Headers(message["headers"])
            return
        self._events += self.parser.feed(message["body"])
        self.has_ended = not message.get("more_body", False)


@asynccontextmanager
async def listening(
    api: httpx.AsyncClient, query: str = "", *, key: str | None = ADMIN_KEY, headers: Mapping[str, str] | None = None
) -> AsyncIterator[Listener]:
    """A stream of the app behind `api`, without a socket in between."""
    listener = Listener()
    sent = {**({} if key is None else {"Authorization": f"Bearer {key}"}), **(headers or {})}
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/events/stream",
        "raw_path": b"/events/stream",
        "root_path": "",
        "query_string": query.encode(),
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in sent.items()],
        "client": ("127.0.0.1", 1),
        "server": ("api.test", 80),
    }
    async with asyncio.TaskGroup() as group:
        running = group.create_task(app_of(api)(scope, listener.receive, listener.send))
        try:
            await listener.opened()
            yield listener
        finally:
            listener.leave()
            listener.is_taking.set()
            await asyncio.wait({running}, timeout=PATIENCE_S)
            running.cancel()


def app_of(api: httpx.AsyncClient) -> ASGIApp:
    app: ASGIApp = api._transport.app  # type: ignore[attr-defined]
    return app


async def write_event(
    database: Connection, connection_id: UUID | str | None = None, type_: str = "message.sent"
) -> str:
    """Append one event, as the product's own functions do; return its id."""
    event_id: UUID = await database.fetchval(
        "INSERT INTO events (tenant_id, connection_id, type, category, severity, payload, fan_out) "
        "VALUES ($1, $2, $3, split_part($3, '.', 1), 'info', $4, false) RETURNING id",
        DEFAULT_TENANT,
        None if connection_id is None else UUID(str(connection_id)),
        type_,
        {"text": "olá\nmundo"},
    )
    return str(event_id)


async def clear_events(database: Connection) -> None:
    """Forget what making the test's connections has left in the log."""
    await database.execute("DELETE FROM events")
