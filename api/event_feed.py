"""What all event streams of a process share: one look at the log for all of them, and the newest events in memory.

While there are streams the log is looked at every 50 ms when something happens, every 250 ms when nothing does; without
streams never. A stream that is behind what is kept in memory reads the database until it is not: nothing is queued for
anybody, so a slow client costs no memory.
"""

import asyncio
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final
from uuid import UUID

import structlog

from api.answers import answer
from api.event_shapes import event_shown
from api.problems import Problem
from shared.db import events
from shared.db.event_horizon import Horizon, LogRewound, Look
from shared.db.events import Event, Wanted
from shared.db.pool import AWAY, DatabaseError, Pool
from shared.queues.outage import Outage

MAX_STREAMS: Final = 1000
MAX_STREAMS_PER_KEY: Final = 200
_RETRY_AFTER_S: Final = 5

_BUSY_PAUSE_S: Final = 0.05
_IDLE_PAUSE_S: Final = 0.25
_WAITING_PAUSE_S: Final = 0.01  # something is written and not settled: mostly a matter of milliseconds
_READ_ROWS: Final = 100
_WINDOW_EVENTS: Final = 2000
_WINDOW_BYTES: Final = 4 * 1_048_576
_CHECK_KEYS_EVERY_S: Final = 10.0

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Told:
    """An event and its bytes on the wire, made once for all streams."""

    event: Event
    block: bytes


class Window:
    """The newest settled events of every tenant, in order, and the news that there are more.

    Complete from `start` (not included) to `end`; both None before the first look. Closed, its streams end.
    """

    def __init__(self) -> None:
        self.start: int | None = None
        self.end: int | None = None
        self.is_closed = False
        self.ended_keys: frozenset[UUID] = frozenset()
        self.keys: Counter[UUID | None] = Counter()
        self.polling: asyncio.Task[None] | None = None
        self._told: list[Told] = []
        self._bytes = 0
        self._news = asyncio.Event()

    @property
    def news(self) -> asyncio.Event:
        """Set once by the next change. Take it before looking at what is there."""
        return self._news

    def after(self, position: int, wanted: Wanted, *, enough_bytes: int) -> tuple[list[bytes], int] | None:
        """Blocks past `position` and where they end, cut short at `enough_bytes`; None: ask the database."""
        if self.start is None or self.end is None:
            return [], position
        if position < self.start:
            return None
        blocks: list[bytes] = []
        size = 0
        for told in self._past(position):
            if wanted.matches(told.event):
                blocks.append(told.block)
                size += len(told.block)
                if size >= enough_bytes:
                    return blocks, told.event.position
        return blocks, max(position, self.end)

    def extend(self, told: list[Told], *, end: int) -> None:
        """Add what follows, up to `end`, drop the oldest beyond the bounds, and wake the streams."""
        if self.start is None:
            self.start = end
        self.end = end
        self._told += told
        self._bytes += sum(len(one.block) for one in told)
        self._shrink()
        self.tell()

    def tell(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    def close(self) -> None:
        self.is_closed = True
        self.tell()

    def _past(self, position: int) -> Iterator[Told]:
        first = bisect_right(self._told, position, key=lambda told: told.event.position)
        return (self._told[index] for index in range(first, len(self._told)))

    def _shrink(self) -> None:
        dropped = 0
        while len(self._told) - dropped > _WINDOW_EVENTS or (self._bytes > _WINDOW_BYTES and dropped < len(self._told)):
            self._bytes -= len(self._told[dropped].block)
            self.start = self._told[dropped].event.position
            dropped += 1
        del self._told[:dropped]


class Feed:
    """One per process. `joined` while a stream lives; the first one starts the looking, the last one ends it."""

    def __init__(self, pool: Pool, *, most: int = MAX_STREAMS, most_per_key: int = MAX_STREAMS_PER_KEY) -> None:
        self.pool = pool
        self.horizon = Horizon(pool)
        # Streams that come back at once after a cut read what they missed a few at a time.
        self.reading = asyncio.Semaphore(2)
        self._most = most
        self._most_per_key = most_per_key
        self._streams: Counter[UUID | None] = Counter()
        self._window: Window | None = None

    def refuse_when_full(self) -> None:
        """Raises Problem 503 when the process has as many streams as it may."""
        if self._streams.total() >= self._most:
            raise Problem(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "UNAVAILABLE",
                f"This process serves {self._most} event streams already. Try again, or read GET /events.",
                retryable=True,
                headers={"Retry-After": str(_RETRY_AFTER_S)},
            )

    @asynccontextmanager
    async def joined(self, key_id: UUID | None) -> AsyncIterator[Window]:
        """What the streams share, while this one lives. Raises Problem 503, or 429 when the key has too many."""
        self.refuse_when_full()
        if self._streams[key_id] >= self._most_per_key:
            raise Problem(
                HTTPStatus.TOO_MANY_REQUESTS,
                "RATE_LIMITED",
                f"This API key has {self._most_per_key} event streams open. Close one, or use one for several types.",
                retryable=True,
                headers={"Retry-After": str(_RETRY_AFTER_S)},
            )
        window = self._open_window()
        self._streams[key_id] += 1
        window.keys[key_id] += 1
        try:
            yield window
        finally:
            self._streams[key_id] -= 1
            window.keys[key_id] -= 1
            self._streams += Counter()  # drops the zeros
            if not window.keys.total():
                await self._close_window(window)

    def _open_window(self) -> Window:
        if self._window is None or self._window.is_closed:
            self._window = Window()
            self._window.polling = asyncio.create_task(self._poll(self._window))  # noqa: TID251 - the last stream ends it
        return self._window

    async def _close_window(self, window: Window) -> None:
        if self._window is window:
            self._window = None
        if window.polling is not None:
            window.polling.cancel()
            await asyncio.wait({window.polling})

    async def _poll(self, window: Window) -> None:
        look, outage = Look(self.pool, self.horizon), Outage("event log")
        pace, keys_due = _Pace(), time.monotonic() + _CHECK_KEYS_EVERY_S
        try:
            while True:
                try:
                    await look.again()
                    has_moved = await self._read_on(window)
                    if time.monotonic() > keys_due:
                        keys_due = time.monotonic() + _CHECK_KEYS_EVERY_S
                        await self._end_streams_of_ended_keys(window)
                except (*AWAY, DatabaseError) as error:
                    pause_s = outage.began(error)
                else:
                    outage.ended()
                    pause_s = pace.next_s(has_moved=has_moved, is_waiting=look.is_waiting)
                await asyncio.sleep(pause_s)
        except LogRewound:
            _log.warning("event_log_rewound")
        except Exception:  # noqa: BLE001 - the root of a task
            _log.exception("event_feed_crashed")
        finally:
            # Its streams end, and their clients come back to a new one.
            window.close()

    async def _read_on(self, window: Window) -> bool:
        """Put into the window what has become settled; whether there was anything."""
        until = self.horizon.settled
        if window.end is None:
            window.extend([], end=until)
        assert window.end is not None
        has_moved = window.end < until
        while window.end < until:
            found = await events.read_everything(self.pool, after=window.end, until=until, limit=_READ_ROWS)
            is_all = len(found) < _READ_ROWS
            window.extend([Told(one, block_of(one)) for one in found], end=until if is_all else found[-1].position)
        return has_moved

    async def _end_streams_of_ended_keys(self, window: Window) -> None:
        key_ids = [key_id for key_id, streams in window.keys.items() if key_id is not None and streams]
        if key_ids and (ended := await events.ended_keys(self.pool, key_ids)):
            window.ended_keys = ended
            window.tell()


def block_of(event: Event) -> bytes:
    """The event as a server-sent one. JSON has no bare line break, so `data` is one line."""
    data = bytes(answer(event_shown(event)).body)
    return b"id: %s\nevent: %s\ndata: %s\n\n" % (str(event.id).encode(), event.type.encode(), data)


class _Pace:
    """How long until the next look: 50 ms after something happened, then 100, 200 and every 250 ms.

    When something is written and nothing settled yet 10 ms, 20, 40 and so on: mostly it takes no longer. With writers
    all the time each look settles what the one before saw, so that there are 20 a second and not 100.
    """

    def __init__(self) -> None:
        self._pause_s = _BUSY_PAUSE_S
        self._was_waiting = False

    def next_s(self, *, has_moved: bool, is_waiting: bool) -> float:
        if has_moved:
            self._pause_s = _BUSY_PAUSE_S
        elif is_waiting and not self._was_waiting:
            self._pause_s = _WAITING_PAUSE_S
        else:
            self._pause_s = min(self._pause_s * 2, _IDLE_PAUSE_S)
        self._was_waiting = is_waiting and not has_moved
        return self._pause_s
