"""Calls that share a commit: who comes along, and that nobody pays for another's fault."""

import asyncio
from collections.abc import Sequence

import pytest

from shared.db.pool import Connection
from shared.queues.runtime import Queues
from shared.queues.together import Together


class Desk:
    """Squares numbers in the database and keeps the batches it was given; `gate` holds the first one up."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def square(self, connection: Connection, asked: Sequence[int]) -> list[int]:
        self.batches.append(list(asked))
        await self.gate.wait()
        # Of all these only 0 is wrong.
        return [int(await connection.fetchval("SELECT 0 * (1 / $1::int) + $1 * $1", one)) for one in asked]


async def test_calls_of_one_moment_share_a_batch_and_those_that_come_meanwhile_the_next(queues: Queues) -> None:
    desk = Desk()
    together = Together(queues.pool, desk.square)
    desk.gate.clear()
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        first = [group.create_task(together.call(one)) for one in (1, 2)]
        while not desk.batches:  # noqa: ASYNC110 - the batch is what is waited for
            await asyncio.sleep(0)
        later = [group.create_task(together.call(one)) for one in (3, 4, 5)]
        await asyncio.sleep(0)
        desk.gate.set()

    assert [task.result() for task in first + later] == [1, 4, 9, 16, 25]
    assert desk.batches == [[1, 2], [3, 4, 5]]


async def test_a_wrong_call_fails_alone(queues: Queues) -> None:
    desk = Desk()
    together = Together(queues.pool, desk.square)
    answers = await asyncio.gather(*(together.call(one) for one in (2, 0, 3)), return_exceptions=True)

    assert (answers[0], answers[2]) == (4, 9)
    assert type(answers[1]).__name__ == "DivisionByZeroError"
    assert desk.batches == [[2, 0, 3], [2], [0], [3]]


async def test_a_caller_that_goes_away_takes_nobody_along(queues: Queues) -> None:
    desk = Desk()
    together = Together(queues.pool, desk.square)
    desk.gate.clear()
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        leaving = group.create_task(together.call(2))
        staying = group.create_task(together.call(3))
        while not desk.batches:  # noqa: ASYNC110 - the batch is what is waited for
            await asyncio.sleep(0)
        leaving.cancel()
        desk.gate.set()

    assert leaving.cancelled()
    assert staying.result() == 9
    assert desk.batches == [[2, 3]]


async def test_when_postgres_breaks_off_the_callers_hear_it_and_the_next_call_goes_through(queues: Queues) -> None:
    async def break_off(connection: Connection, asked: Sequence[int]) -> list[int]:
        if asked[0] == 1:
            await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        return list(asked)

    together = Together(queues.pool, break_off)
    with pytest.raises(Exception) as caught:  # noqa: PT011 - one of AWAY, which one is a matter of timing
        await together.call(1)

    assert "terminat" in str(caught.value) or "closed" in str(caught.value)
    assert await together.call(2) == 2
    await together.close()
