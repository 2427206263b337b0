"""A queue's AWS Lambda handler: an SQS event is a bell, and the drain does the rest until the invocation's deadline."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any, Final, Protocol
from uuid import uuid4

import structlog
from taskiq import AsyncBroker

from shared.db.pool import AWAY
from shared.domain.errors import Unavailable
from shared.log import configure
from shared.queues.bells import load_ahead
from shared.queues.drain import Drain
from shared.queues.outage import Outage
from shared.queues.policies import Runtime
from shared.queues.registry import Work
from shared.queues.runtime import Queues
from shared.queues.through_taskiq import runner_for
from shared.queues.worker import slots_for
from shared.settings import load

# What is claimed must be finished and committed before AWS freezes the container.
_MARGIN_S: Final = 2.0
# A drain that does not end in time, as it cannot commit, is cut off this long before AWS kills the container.
_CUT_S: Final = 1.0
# With less left than this after a slow start nothing is claimed: its handler would be stopped before it did anything.
_LEAST_S: Final = 3.0
# One claims, one finishes, one begins tries, one carries what is enqueued; the handlers share the others.
POOL_AT_LEAST: Final = 5
# What falls due later than this is rung for by the sweeper, which looks every minute.
RING_AHEAD_S: Final = 60.0

log = structlog.get_logger(__name__)


class Context(Protocol):
    """What AWS hands over beside the event; its name is AWS's."""

    def get_remaining_time_in_millis(self) -> int: ...


class LambdaEntry:
    """`handler(event, context)`. The loop, the pool and the resources live as long as the container."""

    def __init__(
        self, work: Work, broker: AsyncBroker, open_resources: Callable[[Queues], AbstractAsyncContextManager[Any]]
    ) -> None:
        self._work = work
        self._broker = broker
        self._open_resources = open_resources
        self._loop: asyncio.AbstractEventLoop | None = None
        self._queues: Queues | None = None
        self._use: Any = None
        self._drain: Drain | None = None
        self._ledger = Outage("postgres")
        self._opened = AsyncExitStack()
        load_ahead()

    def __call__(self, event: dict[str, Any], context: Context) -> dict[str, Any]:
        """Drain the queue. A record says "look", and is done when the ledger was, whatever became of the jobs.

        When the ledger cannot be reached all records have failed, and SQS hands them out again. Raises what no later
        call mends, such as Misconfigured.
        """
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
        has_looked = self._loop.run_until_complete(self._invoke(context))
        again = [] if has_looked else event.get("Records", [])
        return {"batchItemFailures": [{"itemIdentifier": record["messageId"]} for record in again]}

    def close(self) -> None:
        """Let go of everything; AWS only ever kills a container, a test or an emulator ends it."""
        if self._loop is not None:
            self._loop.run_until_complete(self._opened.aclose())
            self._loop.close()
            self._loop = self._drain = self._queues = self._use = None

    async def _invoke(self, context: Context) -> bool:
        """Whether the ledger was reached."""
        error: str | None = None
        try:
            await self._work_off(await self._ready(), context)
        except* (Unavailable, *AWAY) as errors:
            first = errors.exceptions[0]
            error = first.detail if isinstance(first, Unavailable) else type(first).__name__
            # What it holds is of no use: leases lapse, and another claim sees what became of the jobs.
            self._drain = None
        if error is None and not self._ledger.is_on:
            return True
        log.warning("bells_put_back", queue=self._work.queue.value, error=error)
        return False

    async def _ready(self) -> Queues:
        """What the container keeps between invocations, with live connections."""
        if self._queues is not None:
            await self._queues.thaw()
            return self._queues
        settings = load()
        configure(level=settings.log_level, fmt=settings.log_format)
        # All of it or nothing: a start that fails is tried again by the next invocation.
        async with AsyncExitStack() as opened:
            size = max(settings.db_pool_size, POOL_AT_LEAST)
            queues = await opened.enter_async_context(await Queues.open(settings, pool_size=size))
            self._use = await opened.enter_async_context(self._open_resources(queues))
            self._queues, self._opened = queues, opened.pop_all()
        return queues

    async def _work_off(self, queues: Queues, context: Context) -> None:
        """Drain until nothing is claimable or the invocation's time is up. Raises what AWAY names."""
        queue = self._work.queue
        # Asked now: the first invocation has spent some of its time on the start.
        left_s = context.get_remaining_time_in_millis() / 1000
        if left_s - _MARGIN_S < _LEAST_S:
            await queues.ring_others({queue})
            return
        async with asyncio.timeout(left_s - _CUT_S):
            due_s = await self._current_drain(queues).until_idle(deadline_s=left_s - _MARGIN_S)
        # Work that is left was rung for. What is delayed nobody rings for once this container is frozen.
        if due_s is not None and 0 < due_s <= RING_AHEAD_S:
            await queues.ring_later(queue, due_s)

    def _current_drain(self, queues: Queues) -> Drain:
        if self._drain is None:
            self._ledger = Outage("postgres")
            self._drain = Drain(
                queues,
                {self._work.queue: self._work},
                self._use,
                slots=slots_for([self._work.queue], queues.settings),
                worker=f"lambda-{uuid4().hex[:12]}",
                runtime=Runtime.LAMBDA,
                execute=runner_for(self._broker),
                outage=self._ledger,
            )
        return self._drain
