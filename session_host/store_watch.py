"""Ends a process whose Go library holds too many connections to Postgres, so that a fresh one takes its place."""

import asyncio
from typing import Final, Protocol

import structlog

from shared.domain.errors import Unavailable

# Seconds between two looks; twice too many in a row is no burst.
COUNT_S: Final = 15.0

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
