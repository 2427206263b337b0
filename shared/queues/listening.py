"""Hears the bells of the queues that have a free slot."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from shared.domain.errors import Unavailable
from shared.domain.jobs import QueueName
from shared.queues.bells import Bell
from shared.queues.outage import Outage

# A wait names its queues when it begins. One that gets a slot meanwhile is heard by another wait after this long, not
# after the first one's second.
_LOOK_AGAIN_S: Final = 0.03
# Each holds a connection to Redis, of which a process has eight; what is left over is heard within a second.
_WAITS_AT_MOST: Final = 3


class Listener(Protocol):
    """What a bell is heard for: the drain."""

    @property
    def queues(self) -> Sequence[QueueName]: ...
    async def hungry_for(self) -> list[QueueName]: ...
    def ring(self, queues: set[QueueName]) -> object: ...


async def listen(bell: Bell, drain: Listener) -> None:
    """Ring `drain` for what is heard, for ever. Bells of queues without a free slot are left to other workers."""
    outage = Outage("bell, for listening")
    waits: dict[asyncio.Task[None], set[QueueName]] = {}
    async with asyncio.TaskGroup() as group:
        while True:
            free = await drain.hungry_for()
            heard = set().union(*waits.values())
            if (deaf := [queue for queue in free if queue not in heard]) and len(waits) < _WAITS_AT_MOST:
                waits[group.create_task(_wait(bell, deaf, drain.ring, outage))] = set(deaf)
                heard |= set(deaf)
            is_all = heard.issuperset(drain.queues)
            done, _ = await asyncio.wait(
                waits, timeout=None if is_all else _LOOK_AGAIN_S, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                del waits[task]


async def _wait(
    bell: Bell, queues: Sequence[QueueName], ring: Callable[[set[QueueName]], object], outage: Outage
) -> None:
    try:
        rung = await bell.wait(queues)
    except Unavailable as error:
        await asyncio.sleep(outage.began(error))
        return
    outage.ended()
    ring(rung)
