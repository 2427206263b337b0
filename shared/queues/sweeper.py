"""A worker's sweeper: each second, or when something falls due, do what no worker does by itself, and ring for it."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from shared.db import webhook_circuits, webhook_deliveries
from shared.db.pool import AWAY, COLLISION, Connection
from shared.domain.errors import Unavailable
from shared.domain.jobs import QueueName
from shared.domain.outcome import Failure
from shared.domain.writes import Write
from shared.queues.lane import Lane
from shared.queues.outage import Outage
from shared.queues.paces import fit_due
from shared.queues.registry import Works
from shared.queues.runtime import Queues, Transaction, retry_collisions
from shared.queues.sweep import Ended, EndedWhy, Swept, sweep

SWEEP_S: Final = 1.0
# Going idle again and again asks for no more sweeps than this lets through.
_AT_MOST_EVERY_S: Final = 0.1
# A timer may fire a little early by the database's clock, and then the sweep would find nothing.
_PAST_DUE_S: Final = 0.002
# Postgres was away for all workers alike: their leases lapsed, but they live and will renew them in a moment.
_AFTER_OUTAGE_S: Final = 3.0
_LIMIT: Final = 500

_FAILURES: Final = {
    EndedWhy.EXPIRED: Failure(code="EXPIRED", detail="It expired before it could run.", retryable=False),
    EndedWhy.STALLED: Failure(code="STALLED", detail="Its worker died or stopped too often.", retryable=False),
}

log = structlog.get_logger(__name__)


class Sweeper:
    """One loop of one worker; any number may run at once. `every_work` knows what each queue's ended jobs become."""

    def __init__(self, queues: Queues, every_work: Works, *, outage: Outage, on_turn: Callable[[], None]) -> None:
        self._queues = queues
        self._every_work = every_work
        self._outage = outage
        self._on_turn = on_turn
        self._lane = Lane(queues.pool)
        self._next_at = 0.0
        self._last_at = 0.0
        self._net_at = 0.0
        self._sooner = asyncio.Event()

    def soon(self) -> None:
        """Look as soon as may be: whoever went idle wants to know when something falls due."""
        self.due_in(0.0)

    def due_in(self, seconds: float) -> None:
        """Something falls due then."""
        at = max(time.monotonic() + seconds + _PAST_DUE_S, self._last_at + _AT_MOST_EVERY_S)
        if at < self._next_at:
            self._next_at = at
            self._sooner.set()

    async def run(self) -> None:
        """Sweep until cancelled."""
        was_away = False
        try:
            while True:
                await self._wait()
                try:
                    connection = await self._lane.open()
                    if was_away:
                        was_away = False
                        await connection.execute("SELECT 1")
                        self._next_at = time.monotonic() + _AFTER_OUTAGE_S
                        continue
                    swept = await retry_collisions(lambda: self.sweep_once(connection))  # noqa: B023 - called now
                except (*AWAY, *COLLISION, Unavailable) as error:
                    was_away = True
                    await self._lane.drop()
                    self._next_at = time.monotonic() + self._outage.began(error)
                    continue
                self._outage.ended()
                if swept.is_full:
                    self.due_in(0.0)
                elif swept.next_due_s is not None:
                    self.due_in(swept.next_due_s)
        finally:
            await self._lane.close()

    async def sweep_once(self, connection: Connection) -> Swept:
        """One sweep: its ended jobs' rows move in its transaction, and what has work is rung after it."""
        async with self._queues.transaction(connection) as tx:
            swept = await sweep(connection, limit=_LIMIT)
            await self._tell(tx, swept.ended)
            if time.monotonic() >= self._net_at:
                self._net_at = time.monotonic() + SWEEP_S
                tx.fan_out(*await webhook_deliveries.sweep_missed(connection))
                if await webhook_circuits.probe_due(connection):
                    tx.ring(QueueName.WEBHOOK_DELIVERY)
                if await fit_due(connection):
                    tx.ring(QueueName.MESSAGE_SEND)
            tx.ring(*swept.ready)
        for end in swept.ended:
            log.warning("job_ended", job_id=end.job_id, queue=end.queue.value, outcome=end.why.value)
        return swept

    async def _wait(self) -> None:
        while (left := self._next_at - time.monotonic()) > 0:
            self._on_turn()
            self._sooner.clear()
            try:
                async with asyncio.timeout(left):
                    await self._sooner.wait()
            except TimeoutError:
                break
        self._last_at = time.monotonic()
        self._next_at = self._last_at + SWEEP_S

    async def _tell(self, tx: Transaction, ended: Sequence[Ended]) -> None:
        told = [(end, writes) for end in ended if (writes := self._writes_of(end))]
        if not told or await _applied(tx, [write for _, writes in told for write in writes]):
            return
        for end, writes in told:
            if not await _applied(tx, writes):
                log.error("ended_job_untold", job_id=end.job_id, queue=end.queue.value)

    def _writes_of(self, end: Ended) -> Sequence[Write]:
        work = self._every_work.get(end.queue)
        if work is None or work.on_ended is None:
            return ()
        try:
            return work.on_ended(end.data, _FAILURES[end.why])
        except Exception as error:
            log.exception("ended_hook_raised", job_id=end.job_id, queue=end.queue.value, error=type(error).__name__)
            return ()


async def _applied(tx: Transaction, writes: Sequence[Write]) -> bool:
    """Apply in a savepoint, as one job's bad data must not keep every later sweep from ending the others."""
    try:
        async with tx.connection.transaction():
            await tx.apply(writes)
    except (*AWAY, *COLLISION):
        raise
    except Exception as error:  # noqa: BLE001 - whatever the data were
        log.warning("ended_writes_failed", writes=len(writes), error=type(error).__name__)
        return False
    return True
