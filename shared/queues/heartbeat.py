"""The heartbeat: renews the leases of what this process holds, from a thread that a busy handler cannot starve.

On the way it writes down how far jobs are, and hears which of them nobody wants any more.

A handler that computes or blocks holds up every task of its loop, a heartbeat task too, and then its own job and all
others of the process would be taken for dead. The thread has a loop and a connection of its own; it only needs the
interpreter for a moment, which Python gives it every 5 ms whatever the handler does.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Final

import structlog

from shared.db.pool import AWAY, Connection, connect
from shared.domain.errors import Unavailable
from shared.queues import ledger, running
from shared.queues.held import Held
from shared.queues.outage import Outage
from shared.queues.policies import HEARTBEAT_S

# A loop that has not turned for this long will not turn again: its jobs are better off elsewhere.
_STUCK_S: Final = 60.0

log = structlog.get_logger(__name__)


class Heartbeat:
    """Runs from `start` to `stop`. Call `loop_turned` from the watched loop, at least every few seconds."""

    def __init__(
        self,
        database_url: str,
        held: Held,
        *,
        on_lost: Callable[[set[int]], None],
        on_canceled: Callable[[set[int]], None],
    ) -> None:
        self._database_url = database_url
        self._held = held
        self._on_lost = on_lost
        self._on_canceled = on_canceled
        self._watched = asyncio.get_running_loop()
        self._turned_at = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ask it to end and do not wait: what it renews last is finished or released by now."""
        self._stop.set()

    def loop_turned(self) -> None:
        self._turned_at = time.monotonic()

    def _run(self) -> None:
        asyncio.run(self._beat_until_stopped())

    async def _beat_until_stopped(self) -> None:
        outage = Outage("postgres, for the heartbeat")
        while not self._stop.is_set():
            try:
                async with connect(self._database_url) as connection:
                    outage.ended()
                    await self._beat(connection)
            except (*AWAY, Unavailable) as error:
                await asyncio.sleep(outage.began(error))

    async def _beat(self, connection: Connection) -> None:
        is_stuck = False
        while not self._stop.is_set():
            if not is_stuck and time.monotonic() - self._turned_at > _STUCK_S:
                log.error("worker_loop_is_stuck", seconds=_STUCK_S)
            is_stuck = time.monotonic() - self._turned_at > _STUCK_S
            fences, queues = self._held.claims()
            if fences and not is_stuck:
                async with asyncio.timeout(HEARTBEAT_S):
                    lost = await ledger.heartbeat(connection, fences, queues=queues)
                    canceled = await running.canceled(connection, fences.keys() - lost)
                    await running.report_progress(connection, self._held.reports())
                if lost and not self._stop.is_set():
                    self._watched.call_soon_threadsafe(self._on_lost, lost)
                if canceled and not self._stop.is_set():
                    self._watched.call_soon_threadsafe(self._on_canceled, canceled)
            # This loop serves nothing else, so it may as well block; a stop is noticed at once.
            self._stop.wait(HEARTBEAT_S)
