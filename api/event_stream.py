"""One client's event stream: server-sent events over one answer that ends when either side wants it to."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import structlog
from fastapi import Response
from starlette.types import Receive, Scope, Send

from api.event_feed import Feed, Window, block_of
from api.problems import Problem
from shared.db import events
from shared.db.events import Wanted
from shared.db.pool import AWAY, DatabaseError

KEEP_ALIVE_S: Final = 15.0  # proxies cut what is silent for 30 or 60 s
WRITE_TIMEOUT_S: Final = 30.0  # a client that takes nothing for so long is gone, or will resume
_RETRY_MS: Final = 2000
_ENOUGH_BYTES: Final = 65_536  # in one write; the server holds back the next one until most of it left
_READ_ROWS: Final = 50
_AWAY_PAUSE_S: Final = 1.0
_LAST_WRITE_S: Final = 1.0

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Following:
    """Who follows the log, from where and what of it. `key_id` None: the admin key.

    `is_live` false: what is there now, and the end; for where no answer can stay open.
    """

    key_id: UUID | None
    wanted: Wanted
    after: int
    is_live: bool = True


class EventStream(Response):
    """Ends when the client leaves, takes nothing for 30 s, its key ends, or the process stops: the client resumes."""

    media_type = "text/event-stream"

    def __init__(
        self, feed: Feed, following: Following, *, stopping: asyncio.Event, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no", **(headers or {})})
        del self.headers["content-length"]
        self._feed = feed
        self._following = following
        self._stopping = stopping
        self._rows = _READ_ROWS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        writer = _Writer(send)
        async with self._feed.joined(self._following.key_id) as window:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            async with asyncio.TaskGroup() as group:
                ends = {
                    group.create_task(self._tell(writer, window)),
                    group.create_task(_client_left(receive)),
                    group.create_task(self._stop()),
                }
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
                for end in ends:
                    end.cancel()
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WRITE_S):
                await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _stop(self) -> None:
        await self._stopping.wait()

    async def _tell(self, writer: "_Writer", window: Window) -> None:
        try:
            await writer.write(b"retry: %d\n\n" % _RETRY_MS)
            if self._following.is_live:
                await self._follow(writer, window)
            else:
                await self._tell_what_is_there(writer)
        except _TooSlow:
            _log.info("event_client_let_go", key_id=str(self._following.key_id), took_nothing_for_s=WRITE_TIMEOUT_S)

    async def _follow(self, writer: "_Writer", window: Window) -> None:
        position, key_id = self._following.after, self._following.key_id
        while not window.is_closed and key_id not in window.ended_keys:
            news = window.news
            found = window.after(position, self._following.wanted, enough_bytes=_ENOUGH_BYTES)
            if found is None:
                try:
                    found = await self._read(position)
                except (*AWAY, DatabaseError):
                    # The feed says it in the log; this client waits as all of them do.
                    await asyncio.sleep(_AWAY_PAUSE_S)
                    continue
            blocks, reach = found
            if blocks:
                await writer.write(b"".join(blocks))
            elif reach > position:
                await writer.keep_alive_when_due()
            else:
                await writer.keep_alive_until(news)
            position = reach

    async def _tell_what_is_there(self, writer: "_Writer") -> None:
        position, until = self._following.after, self._feed.horizon.settled
        while position < until:
            blocks, position = await self._read(position)
            if blocks:
                await writer.write(b"".join(blocks))

    async def _read(self, position: int) -> tuple[list[bytes], int]:
        """What the database has next, as much as one write takes, and where that ends."""
        async with self._feed.reading:
            found, reach = await events.read(
                self._feed.pool,
                self._following.wanted,
                after=position,
                until=self._feed.horizon.settled,
                limit=self._rows,
            )
        blocks: list[bytes] = []
        left = _ENOUGH_BYTES
        for event in found:
            blocks.append(block_of(event))
            left -= len(blocks[-1])
            if left <= 0:
                # The rest is read again, fewer rows at once: a client that takes none must not hold many in memory.
                self._rows = len(blocks)
                return blocks, event.position
        self._rows = min(self._rows * 2, _READ_ROWS)
        return blocks, reach


class _TooSlow(Exception):
    """The client does not take what was sent to it."""


class _Writer:
    """Sends pieces of the answer, and comments when there was nothing to send."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._clock = asyncio.get_running_loop().time
        self._wrote_at = self._clock()

    async def write(self, data: bytes) -> None:
        """Raises _TooSlow when the client does not take what was sent before."""
        try:
            async with asyncio.timeout(WRITE_TIMEOUT_S):
                await self._send({"type": "http.response.body", "body": data, "more_body": True})
        except TimeoutError:
            raise _TooSlow from None
        self._wrote_at = self._clock()

    async def keep_alive_until(self, news: asyncio.Event) -> None:
        """Return when there is news, or when a comment was written as silence had lasted long enough."""
        with suppress(TimeoutError):
            async with asyncio.timeout_at(self._wrote_at + KEEP_ALIVE_S):
                await news.wait()
        await self.keep_alive_when_due()

    async def keep_alive_when_due(self) -> None:
        if self._clock() >= self._wrote_at + KEEP_ALIVE_S:
            await self.write(b": keep-alive\n\n")


async def _client_left(receive: Receive) -> None:
    # A body without end is a Problem, for which there is no answer any more.
    with suppress(Problem):
        while (await receive())["type"] != "http.disconnect":
            pass
