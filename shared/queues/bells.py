"""The bell: "queue q may have claimable work". It carries no job and no state, so losing one costs a sweep at most."""

import asyncio
from collections.abc import Collection
from importlib import import_module
from typing import Final, Protocol

from shared.domain.errors import Misconfigured
from shared.domain.jobs import QueueName
from shared.settings import Settings, load_lambda

# A wait gives up after this long, so that the caller can ask again for other queues.
WAIT_S: Final = 1.0


class Bell(Protocol):
    """Rings and hears. One ring waits per queue at most; each is heard by one listener."""

    async def open(self) -> None:
        """Do what the first ring need not wait for. Never fails: a transport that is away may come back."""

    async def ring(self, queues: Collection[QueueName]) -> None:
        """Say that these queues may have work. Raises Unavailable when the transport does not answer in time."""

    async def ring_later(self, queue: QueueName, delay_s: float, /) -> None:
        """See that the queue is rung in so many seconds, for who has no clock of its own. Raises Unavailable.

        A transport that only workers hear may do nothing: their sweeps know what falls due.
        """

    async def wait(self, queues: Collection[QueueName]) -> set[QueueName]:
        """Return those of `queues` that were rung, or nothing after WAIT_S. Raises Unavailable; call it again later."""

    async def close(self) -> None:
        """Let go of the transport."""


class MemoryBell:
    """A bell within one process."""

    def __init__(self) -> None:
        self._rung: set[QueueName] = set()
        self._changed = asyncio.Condition()

    async def open(self) -> None:
        return

    async def ring(self, queues: Collection[QueueName]) -> None:
        async with self._changed:
            self._rung.update(queues)
            self._changed.notify_all()

    async def ring_later(self, _queue: QueueName, _delay_s: float) -> None:
        return

    async def wait(self, queues: Collection[QueueName]) -> set[QueueName]:
        try:
            async with asyncio.timeout(WAIT_S), self._changed:
                await self._changed.wait_for(lambda: self._rung & set(queues))
                heard = self._rung & set(queues)
                self._rung -= heard
                return heard
        except TimeoutError:
            return set()

    async def close(self) -> None:
        return


def open_bell(settings: Settings) -> Bell:
    """The bell of `settings.transport`; connects at its first use. Raises Misconfigured."""
    match settings.transport:
        case "memory":
            return MemoryBell()
        case "redis":
            if settings.redis_url is None:
                raise Misconfigured("ZAPHUB_REDIS_URL is not set; set it, or ZAPHUB_TRANSPORT=memory for one process.")
            # Here, as a Lambda on SQS has no need of Redis.
            from shared.queues.redis_bell import RedisBell  # noqa: PLC0415

            return RedisBell(settings.redis_url)
        case "sqs":
            # Here, as AWS's client takes a third of a second to load.
            from shared.queues.sqs_bell import SqsBell  # noqa: PLC0415

            return SqsBell(settings.sqs_queue_urls)


def load_ahead() -> None:
    """In a Lambda, load AWS's client while the container is initialised: the first invocation needs it in any case.

    AWS gives that time a whole CPU, and an invocation the share of its memory: a third of one at 512 MB.
    """
    if load_lambda().aws_lambda_function_name is not None:
        import_module("shared.queues.sqs_bell")
