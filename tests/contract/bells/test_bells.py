"""Every bell keeps the same promises, over Redis, over SQS (an emulator on loopback) and in memory.

Rung twice, lost or never rung: one claim more or one sweep later, and never an error.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import pytest

from local.ports import free_port
from shared.domain.errors import Misconfigured, Unavailable
from shared.domain.jobs import QueueName
from shared.queues.bells import WAIT_S, Bell, MemoryBell
from shared.queues.redis_bell import _SOCKET_TIMEOUT_S, RedisBell
from shared.queues.sqs_bell import SqsBell
from tests.sqs import Bells, bells_in

RECEIVE, SEND = QueueName.MESSAGE_RECEIVE, QueueName.MESSAGE_SEND
ACCOUNT = "123456789012"


@pytest.fixture(params=["redis", "sqs", "memory"])
async def bell(request: pytest.FixtureRequest) -> AsyncIterator[Bell]:
    opened: Bell
    match request.param:
        case "redis":
            opened = RedisBell(request.getfixturevalue("redis_url"))
        case "sqs":
            opened = SqsBell(request.getfixturevalue("sqs_urls"))
        case _:
            opened = MemoryBell()
    async with _closing(opened):
        await opened.open()
        yield opened


@asynccontextmanager
async def _closing(bell: Bell) -> AsyncIterator[Bell]:
    try:
        yield bell
    finally:
        await bell.close()


async def _heard(bell: Bell, queues: list[QueueName]) -> set[QueueName]:
    """What is heard by somebody who waits until something is, within ten waits."""
    for _ in range(10):
        if heard := await bell.wait(queues):
            return heard
    return set()


async def _silent(bell: Bell, queues: list[QueueName]) -> None:
    """Wait until nothing is heard any more: SQS may say a bell twice."""
    for _ in range(10):
        if not await bell.wait(queues):
            return
    pytest.fail("the bell does not stop")


async def test_a_ring_is_heard_by_who_works_the_queue(bell: Bell) -> None:
    await bell.ring([RECEIVE])

    assert await _heard(bell, [RECEIVE, SEND]) == {RECEIVE}
    await _silent(bell, [RECEIVE, SEND])


async def test_many_rings_are_few_bells(bell: Bell) -> None:
    await asyncio.gather(*(bell.ring([RECEIVE]) for _ in range(100)))

    assert await _heard(bell, [RECEIVE, SEND]) == {RECEIVE}
    await _silent(bell, [RECEIVE, SEND])


async def test_a_bell_for_another_queue_is_kept_for_who_works_it(bell: Bell) -> None:
    await bell.ring([SEND])

    assert await bell.wait([RECEIVE]) == set()
    assert await _heard(bell, [SEND]) == {SEND}


async def test_a_ring_wakes_who_waits_already(bell: Bell) -> None:
    waiting = asyncio.ensure_future(_heard(bell, [SEND]))
    await asyncio.sleep(0)  # let it begin
    await bell.ring([SEND])

    assert await waiting == {SEND}


async def test_two_who_wait_for_different_queues_hear_their_own(bell: Bell) -> None:
    waiting = [asyncio.ensure_future(_heard(bell, [queue])) for queue in (SEND, RECEIVE)]
    await asyncio.sleep(0)  # let them begin
    await bell.ring([SEND, RECEIVE])

    assert await asyncio.gather(*waiting) == [{SEND}, {RECEIVE}]


async def test_a_ring_for_later_does_no_harm_now(bell: Bell) -> None:
    await bell.ring_later(SEND, 900)

    assert await bell.wait([SEND]) == set()


async def test_a_ring_for_later_is_heard_then(sqs_urls: Mapping[QueueName, str]) -> None:
    async with _closing(SqsBell(sqs_urls)) as bell:
        await bell.ring_later(SEND, 0.2)

        assert await _heard(bell, [SEND]) == {SEND}


async def test_what_is_heard_is_not_said_again(sqs_urls: Mapping[QueueName, str]) -> None:
    async with _closing(SqsBell(sqs_urls)) as bell:
        await bell.ring([SEND])
        assert await _heard(bell, [SEND]) == {SEND}

    assert bells_in(sqs_urls[SEND]) == Bells(ready=0, hidden=0, delayed=0)


async def test_a_transport_that_is_away_says_so_and_comes_back(sqs_urls: Mapping[QueueName, str]) -> None:
    nobody = f"http://127.0.0.1:{free_port('127.0.0.1')}"
    async with _closing(SqsBell({queue: f"{nobody}/{ACCOUNT}/{queue}" for queue in QueueName})) as bell:
        with pytest.raises(Unavailable, match="SQS does not answer"):
            await bell.ring([SEND])
        with pytest.raises(Unavailable, match="SQS does not answer"):
            await _heard(bell, [SEND])

    async with _closing(SqsBell({**sqs_urls, SEND: f"{sqs_urls[SEND]}-gone"})) as bell:
        with pytest.raises(Unavailable, match="NonExistentQueue"):
            await bell.ring([SEND])
        await bell.ring([RECEIVE])
        assert await _heard(bell, [RECEIVE]) == {RECEIVE}


@pytest.mark.parametrize(
    ("urls", "complaint"),
    [
        ({}, "has no URL for session:init, "),
        ({queue: f"https://sqs.sa-east-1.amazonaws.com/1/{queue}" for queue in list(QueueName)[1:]}, "no URL for"),
        ({queue: f"https://{index}.example.com/{queue}" for index, queue in enumerate(QueueName)}, "on one host"),
        (dict.fromkeys(QueueName, "zaphub-message-send"), "begin with https://"),
    ],
)
def test_wrong_urls_are_named(urls: Mapping[QueueName, str], complaint: str) -> None:
    with pytest.raises(Misconfigured, match=complaint):
        SqsBell(urls)


def test_redis_may_stay_silent_for_longer_than_a_wait() -> None:
    # At 5 s, redis-py's own default, an idle worker with a longer wait would die of the silence.
    assert _SOCKET_TIMEOUT_S > WAIT_S
