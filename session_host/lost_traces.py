"""What becomes of a try whose trace the library could not store: it is marked as one before its frame leaves.

whatsmeow stores a message's secret with its wire id, and goes on without when the store refuses it. A lookup that finds
no row would then say that nothing left. It tells of the refusal on the thread that writes the frame next.
"""

import asyncio
import os
import signal
from collections.abc import Sequence
from typing import Final, Protocol
from uuid import UUID

import structlog

from shared.db import tries
from shared.db.pool import Pool

# How long the frame is kept back at most.
_MARK_S: Final = 5.0

log = structlog.get_logger(__name__)


class InFlight(Protocol):
    def in_flight(self) -> Sequence[tuple[UUID, int]]:
        """The tries, by message and send number, that run in this process now."""
        ...


class LostTraces:
    """One process's. `heard` is for the library's threads; it belongs to the running loop otherwise."""

    def __init__(self, pool: Pool, desk: InFlight) -> None:
        self._pool = pool
        self._desk = desk
        self._loop = asyncio.get_running_loop()

    def heard(self) -> None:
        """Return when the tries in flight are marked: one of them is about to leave without a trace.

        When they cannot be, the process ends here, before the frame leaves: that is proof enough that it never did.
        """
        try:
            asyncio.run_coroutine_threadsafe(self._mark(), self._loop).result(_MARK_S)
        except BaseException:  # noqa: BLE001 - whatever it is, the frame must not leave unmarked
            os.kill(os.getpid(), signal.SIGKILL)

    async def _mark(self) -> None:
        running = self._desk.in_flight()
        log.error("send_trace_lost", tries=len(running))
        await tries.mark_untraced(self._pool, running)
