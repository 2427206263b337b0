"""Enqueueing one job from many callers at once: one commit for all, and each as safe as if it were alone."""

import asyncio

import pytest
from taskiq.exceptions import SendTaskError

from functions import message_status
from shared.domain.jobs import QueueName
from shared.queues.runtime import Queues, set_current
from tests.integration.drain.conftest import job_row, new_job, states

COMMITS = "SELECT count(DISTINCT xmin::text) FROM jobs"


async def test_callers_of_one_moment_share_a_commit_and_each_finds_its_job_made(queues: Queues) -> None:
    async def call(number: int) -> int:
        made = await queues.enqueue(new_job(number))
        # On another connection: it sees only what is committed.
        count: int = await queues.pool.fetchval("SELECT count(*) FROM jobs WHERE pk = $1", made.pk)
        return count

    found = await asyncio.gather(*(call(number) for number in range(50)))

    assert found == [1] * 50
    assert await queues.pool.fetchval(COMMITS) == 1


async def test_jobs_take_their_places_in_the_order_of_the_calls(queues: Queues) -> None:
    await asyncio.gather(*(queues.enqueue(new_job(number, order_key="chat")) for number in range(300)))

    rows = await queues.pool.fetch("SELECT job_key FROM jobs ORDER BY position")
    assert [row["job_key"] for row in rows] == [f"job-{number}" for number in range(300)]


async def test_a_batch_is_bounded(queues: Queues) -> None:
    await asyncio.gather(*(queues.enqueue(new_job(number)) for number in range(450)))

    assert await queues.pool.fetchval(COMMITS) == 3


async def test_one_job_that_cannot_be_made_spoils_no_other(queues: Queues) -> None:
    wrong = new_job("wrong", data={"n": float("nan")})

    answers = await asyncio.gather(
        queues.enqueue(new_job(1)), queues.enqueue(wrong), queues.enqueue(new_job(2)), return_exceptions=True
    )

    assert isinstance(answers[1], Exception)
    assert await states(queues) == {"waiting": 2}


async def test_an_id_that_two_callers_use_at_once_makes_one_job(queues: Queues) -> None:
    first, second = await asyncio.gather(queues.enqueue(new_job()), queues.enqueue(new_job()))

    assert (first.deduplicated, second.deduplicated) == (False, True)
    assert first.pk == second.pk


async def test_a_caller_that_is_cancelled_harms_no_other(queues: Queues) -> None:
    async with asyncio.TaskGroup() as group:
        callers = [group.create_task(queues.enqueue(new_job(number))) for number in range(3)]
        await asyncio.sleep(0)
        callers[1].cancel()

    assert callers[1].cancelled()
    assert {task.result().job_id for task in (callers[0], callers[2])} == {"job-0", "job-2"}


async def test_a_ring_follows_the_commit(queues: Queues) -> None:
    await queues.enqueue(new_job())

    assert await queues.bell.wait([QueueName.MESSAGE_STATUS]) == {QueueName.MESSAGE_STATUS}


async def test_closing_waits_for_what_was_asked_for(queues: Queues) -> None:
    async with await Queues.open(queues.settings) as other, asyncio.TaskGroup() as group:
        made = group.create_task(other.enqueue(new_job()))
        await asyncio.sleep(0)
        await other.close()

    assert made.result().pk == (await job_row(queues))["pk"]


async def test_kiq_of_what_is_no_json_raises_what_taskiq_promises(queues: Queues) -> None:
    set_current(queues)
    try:
        with pytest.raises(SendTaskError):
            await message_status.task.kiq(sessionId="s-1", waMessageId="3EB0", status={1, 2})
    finally:
        set_current(None)

    assert await states(queues) == {}
