"""Bells are heard for a queue as soon as it has a slot, also while a wait for others goes on."""

import asyncio
from collections.abc import Collection

import pytest

from shared.domain.errors import Unavailable
from shared.domain.jobs import QueueName
from shared.queues.listening import listen

SEND, WEBHOOK, STATUS = QueueName.MESSAGE_SEND, QueueName.WEBHOOK_DELIVERY, QueueName.MESSAGE_STATUS


class Bell:
    """Answers a wait with what is put into `answers`, in turn; remembers what each wait was for."""

    def __init__(self) -> None:
        self.waits: asyncio.Queue[tuple[list[QueueName], asyncio.Future[set[QueueName]]]] = asyncio.Queue()

    async def open(self) -> None: ...
    async def ring(self, queues: Collection[QueueName]) -> None: ...
    async def ring_later(self, queue: QueueName, delay_s: float) -> None: ...
    async def close(self) -> None: ...

    async def wait(self, queues: Collection[QueueName]) -> set[QueueName]:
        answer = asyncio.get_running_loop().create_future()
        self.waits.put_nowait((list(queues), answer))
        return await answer


class Drain:
    """What a drain shows of itself."""

    def __init__(self, *free: QueueName) -> None:
        self.queues = [SEND, STATUS, WEBHOOK]
        self.free = list(free)
        self.rung: asyncio.Queue[set[QueueName]] = asyncio.Queue()

    async def hungry_for(self) -> list[QueueName]:
        return self.free

    def ring(self, queues: set[QueueName]) -> None:
        self.rung.put_nowait(queues)


async def test_a_queue_that_gets_a_slot_is_heard_while_a_wait_for_others_goes_on() -> None:
    bell, drain = Bell(), Drain(SEND, STATUS)
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        listening = group.create_task(listen(bell, drain))
        first, _ = await bell.waits.get()
        drain.free.append(WEBHOOK)
        second, answer = await bell.waits.get()
        answer.set_result({WEBHOOK})
        rung = await drain.rung.get()
        listening.cancel()

    assert (first, second, rung) == ([SEND, STATUS], [WEBHOOK], {WEBHOOK})


async def test_one_wait_hears_for_all_when_all_have_a_slot_and_another_begins_when_it_ends() -> None:
    bell, drain = Bell(), Drain(SEND, STATUS, WEBHOOK)
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        listening = group.create_task(listen(bell, drain))
        first, answer = await bell.waits.get()
        answer.set_result(set())
        second, _ = await bell.waits.get()
        listening.cancel()

    assert first == second == [SEND, STATUS, WEBHOOK]
    assert bell.waits.empty()


async def test_a_transport_that_is_away_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.queues.outage.Outage.began", lambda *_: 0.0)
    bell, drain = Bell(), Drain(SEND)
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        listening = group.create_task(listen(bell, drain))
        _, answer = await bell.waits.get()
        answer.set_exception(Unavailable("away"))
        _, answer = await bell.waits.get()
        answer.set_result({SEND})
        rung = await drain.rung.get()
        listening.cancel()

    assert rung == {SEND}
