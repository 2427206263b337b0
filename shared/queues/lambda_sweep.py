"""The sweep as an AWS Lambda that EventBridge starts every minute: what a worker's sweeper does each second."""

import asyncio
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pycron
import structlog

from shared.db import leases
from shared.domain.jobs import QueueName
from shared.log import configure
from shared.queues import ledger, new_jobs, watch
from shared.queues.bells import load_ahead
from shared.queues.lambda_entry import RING_AHEAD_S, Context
from shared.queues.outage import Outage
from shared.queues.registry import Works
from shared.queues.runtime import Queues, retry_collisions
from shared.queues.sweeper import Sweeper
from shared.settings import load

# What a sweep began must be committed before AWS ends the invocation.
_MARGIN_S: Final = 10.0
# An invocation may be late or fail; a slot is filled once, however many see it.
_SLOTS_BACK: Final = 10

log = structlog.get_logger(__name__)


class SweepEntry:
    """`handler(event, context)`. An error ends the invocation: it is counted, and the next minute looks again."""

    def __init__(self, every_work: Works) -> None:
        self._every_work = every_work
        self._loop: asyncio.AbstractEventLoop | None = None
        self._queues: Queues | None = None
        self._opened = AsyncExitStack()
        load_ahead()

    def __call__(self, _event: dict[str, Any], context: Context) -> dict[str, Any]:
        """Sweep until nothing is left to sweep, judge the queues, and ring ahead for what falls due."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
        ended = self._loop.run_until_complete(self._invoke(context))
        return {"ended": ended}

    def close(self) -> None:
        """Let go of everything; AWS only ever kills a container, a test or an emulator ends it."""
        if self._loop is not None:
            self._loop.run_until_complete(self._opened.aclose())
            self._loop.close()
            self._loop = self._queues = None

    async def _invoke(self, context: Context) -> int:
        if self._queues is not None:
            await self._queues.thaw()
        queues = self._queues or await self._start()
        # Asked now: the first invocation has spent some of its time on the start.
        until = asyncio.get_running_loop().time() + context.get_remaining_time_in_millis() / 1000 - _MARGIN_S
        sweeper = Sweeper(queues, self._every_work, outage=Outage("postgres"), on_turn=lambda: None)
        ended = 0
        async with queues.pool.acquire() as connection:
            while asyncio.get_running_loop().time() < until:
                swept = await retry_collisions(lambda: sweeper.sweep_once(connection))
                ended += len(swept.ended)
                if not swept.is_full:
                    break
            outlook = await ledger.outlook(connection, list(QueueName))
        await watch.look(queues)
        await _count_sessions(queues)
        await self._clean(queues)
        for queue, due_s in outlook.items():
            if due_s is not None and 0 < due_s <= RING_AHEAD_S:
                await queues.ring_later(queue, due_s)
        return ended

    async def _clean(self, queues: Queues) -> None:
        """Make the cleanup's job of each slot that has come in the last minutes: one may have been missed."""
        now = datetime.now(UTC).replace(second=0, microsecond=0)
        slots = [now - timedelta(minutes=ago) for ago in range(_SLOTS_BACK)]
        for slot in slots:
            if pycron.is_now(queues.settings.cleanup_cron, slot):
                async with queues.transaction() as tx:
                    await tx.enqueue_once(new_jobs.cleanup({"slot": new_jobs.slot_of(slot)}))

    async def _start(self) -> Queues:
        settings = load()
        configure(level=settings.log_level, fmt=settings.log_format)
        self._queues = await self._opened.enter_async_context(await Queues.open(settings))
        return self._queues


async def _count_sessions(queues: Queues) -> None:
    """Say how many sessions are offline that should not be: `infra/terraform/modules/alarms` reads this line."""
    wanted, offline = await leases.offline(queues.pool)
    # Also where only warnings are logged, what is amiss is told.
    say = log.warning if offline else log.info
    say("sessions_counted", wanted=wanted, offline=offline)
