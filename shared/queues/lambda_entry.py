"""A queue's AWS Lambda handler: an SQS event is a bell, and the drain does the rest until the invocation's deadline."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any, Final, Protocol
from uuid import uuid4

from taskiq import AsyncBroker

from shared.log import configure
from shared.queues.drain import Drain
from shared.queues.policies import Runtime
from shared.queues.registry import Work
from shared.queues.runtime import Queues
from shared.queues.through_taskiq import runner_for
from shared.queues.worker import slots_for
from shared.settings import load

# What is claimed must be finished and committed before AWS freezes the container.
_MARGIN_S: Final = 2.0
# One claims, one finishes, one begins tries, one carries what is enqueued; the handlers share the others.
POOL_AT_LEAST: Final = 5
# What falls due later than this is rung for by the sweeper, which looks every minute.
RING_AHEAD_S: Final = 60.0


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
        self._drain: Drain | None = None
        self._queues: Queues | None = None
        self._opened = AsyncExitStack()

    def __call__(self, _event: dict[str, Any], context: Context) -> dict[str, Any]:
        """Drain the queue. Every record is answered as done: it said "look", and raising makes SQS say it again."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
        self._loop.run_until_complete(self._invoke(context.get_remaining_time_in_millis() / 1000))
        return {"batchItemFailures": []}

    def close(self) -> None:
        """Let go of everything; AWS only ever kills a container, a test or an emulator ends it."""
        if self._loop is not None:
            self._loop.run_until_complete(self._opened.aclose())
            self._loop.close()
            self._loop = self._drain = self._queues = None

    async def _invoke(self, remaining_s: float) -> None:
        if self._queues is not None:
            await self._queues.thaw()
        drain = self._drain or await self._start()
        due_s = await drain.until_idle(deadline_s=max(0.0, remaining_s - _MARGIN_S))
        # Work that is left was rung for. What is delayed nobody rings for once this container is frozen.
        if due_s is not None and 0 < due_s <= RING_AHEAD_S:
            assert self._queues is not None, "it was opened with the drain"
            await self._queues.ring_later(self._work.queue, due_s)

    async def _start(self) -> Drain:
        settings = load()
        configure(level=settings.log_level, fmt=settings.log_format)
        size = max(settings.db_pool_size, POOL_AT_LEAST)
        queues = self._queues = await self._opened.enter_async_context(await Queues.open(settings, pool_size=size))
        use = await self._opened.enter_async_context(self._open_resources(queues))
        self._drain = Drain(
            queues,
            {self._work.queue: self._work},
            use,
            slots=slots_for([self._work.queue], settings),
            worker=f"lambda-{uuid4().hex[:12]}",
            runtime=Runtime.LAMBDA,
            execute=runner_for(self._broker),
        )
        return self._drain
