"""Ends a process whose Go library holds too much that it never gives back, so that a fresh one takes its place."""

import asyncio
import resource
from collections.abc import Callable
from typing import Final, Protocol

import structlog

from shared.domain.errors import Unavailable

# Seconds between two looks; twice too many in a row is no burst.
COUNT_S: Final = 15.0
# Each client that ever started keeps a file descriptor and 32 KiB until the process ends, also when Postgres has closed
# its side. A session whose proxy is gone starts one a minute.
_STARTS: Final = 2_000

log = structlog.get_logger(__name__)


class Store(Protocol):
    """Counts its connections. Raises Unavailable while Postgres does not answer."""

    async def connections(self) -> int: ...


async def watch(store: Store, *, bound: int, stopping: asyncio.Event) -> None:
    """Set `stopping` once more than `bound` connections are open at two looks in a row; a bound of 0 is none."""
    over = 0
    while bound:
        await asyncio.sleep(COUNT_S)
        try:
            count = await store.connections()
        except Unavailable:
            continue
        over = over + 1 if count > bound else 0
        if over > 1:
            log.warning("host_child_recycles", store_connections=count, bound=bound)
            stopping.set()
            return


async def watch_starts(started: Callable[[], int], *, most: int, stopping: asyncio.Event) -> None:
    """Set `stopping` once more than `most` clients have started in this process, in vain or not."""
    while True:
        await asyncio.sleep(COUNT_S)
        if (count := started()) > most:
            log.warning("host_child_recycles", clients_started=count, bound=most)
            stopping.set()
            return


def most_starts() -> int:
    """How many clients a process may start: 2,000, or what half of its file descriptors suffice for."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _STARTS if files == resource.RLIM_INFINITY else min(_STARTS, files // 2)
