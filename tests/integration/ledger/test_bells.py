"""A bell that is rung twice, lost or never rung: one claim more or one sweep later, and never an error."""

from collections.abc import AsyncIterator

import pytest

from shared.domain.jobs import QueueName
from shared.queues.bells import WAIT_S, Bell, MemoryBell
from shared.queues.redis_bell import _SOCKET_TIMEOUT_S, RedisBell

RECEIVE, SEND = QueueName.MESSAGE_RECEIVE, QueueName.MESSAGE_SEND


@pytest.fixture(params=["redis", "memory"])
async def bell(request: pytest.FixtureRequest) -> AsyncIterator[Bell]:
    opened: Bell = MemoryBell() if request.param == "memory" else RedisBell(request.getfixturevalue("redis_url"))
    yield opened
    await opened.close()


async def test_a_bell_that_is_rung_often_is_heard_once(bell: Bell) -> None:
    for _ in range(5):
        await bell.ring([RECEIVE])

    assert await bell.wait([RECEIVE, SEND]) == {RECEIVE}
    assert await bell.wait([RECEIVE, SEND]) == set()


async def test_a_bell_for_another_queue_is_kept_for_who_works_it(bell: Bell) -> None:
    await bell.ring([SEND])

    assert await bell.wait([RECEIVE]) == set()
    assert await bell.wait([SEND]) == {SEND}


def test_redis_may_stay_silent_for_longer_than_a_wait() -> None:
    # At 5 s, redis-py's own default, an idle worker with a longer wait would die of the silence.
    assert _SOCKET_TIMEOUT_S > WAIT_S
