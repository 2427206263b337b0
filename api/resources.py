"""What a running API holds: its settings, its queues and database, and the news that it is stopping."""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from threading import current_thread, main_thread
from types import FrameType
from typing import Final

from fastapi import Request

from shared.db import api_keys
from shared.db.api_keys import KeyHolder
from shared.hosts.client import HostClient, open_host_client
from shared.media import Media, open_media
from shared.queues.redis_eviction import refuse_eviction
from shared.queues.runtime import Queues
from shared.queues.together import Together
from shared.settings import Settings

# A caller hears within seconds that Postgres does not answer: the client is a program that can ask again.
_PATIENCE_S: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """One per process, from start to stop. `stopping` is set when a signal asks the process to end.

    `keys` tells who holds a key, by its SHA-256. `hosts` None: ZAPHUB_HOST_TOKEN is not set, so no session host would
    listen.
    """

    settings: Settings
    queues: Queues
    keys: Together[bytes, KeyHolder | None]
    media: Media
    hosts: HostClient | None
    stopping: asyncio.Event


async def resources(request: Request) -> Resources:
    """A dependency: what the running API holds."""
    held: Resources = request.app.state.resources
    return held


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Resources]:
    """Open everything, close it at the end. Raises Unavailable when Postgres does not answer, Misconfigured."""
    stopping = asyncio.Event()
    async with AsyncExitStack() as held:
        await refuse_eviction(settings)
        queues = await held.enter_async_context(await Queues.open(settings, patience_s=_PATIENCE_S))
        keys = Together(queues.pool, api_keys.authenticate)
        held.push_async_callback(keys.close)
        media = await held.enter_async_context(open_media(settings, queues.pool))
        hosts = None
        if settings.host_token is not None:
            hosts = await held.enter_async_context(open_host_client(settings, queues.pool))
        held.enter_context(_told_by_signals(stopping))
        yield Resources(settings=settings, queues=queues, keys=keys, media=media, hosts=hosts, stopping=stopping)


@contextmanager
def _told_by_signals(stopping: asyncio.Event) -> Iterator[None]:
    """Set `stopping` on SIGINT and SIGTERM, before the server's own handler waits for the requests that run.

    A request that waits for a QR code or a message would keep the process for up to 25 s otherwise.
    """
    if current_thread() is not main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def tell(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(stopping.set)
        server = before[signal.Signals(number)]
        if callable(server):
            server(number, frame)

    told = {number for number, server in before.items() if callable(server)}
    for number in told:
        signal.signal(number, tell)
    try:
        yield
    finally:
        for number in told:
            signal.signal(number, before[number])
