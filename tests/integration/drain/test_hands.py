"""The tasks that run handlers: shared by those that never wait, one's own for each that does."""

import asyncio
import time
from collections.abc import Sequence
from contextvars import ContextVar

from shared.domain.jobs import Job, NewJob, QueueName
from shared.domain.outcome import Done, Outcome
from shared.queues.registry import Work
from shared.queues.runtime import Queues
from tests.integration.drain.conftest import drained, enqueue, job_row, new_job, states

STATUS, RECEIVE = QueueName.MESSAGE_STATUS, QueueName.MESSAGE_RECEIVE


def _task() -> "asyncio.Task[object]":
    task = asyncio.current_task()
    assert task is not None
    return task


async def test_handlers_that_never_wait_share_a_task_and_each_that_waits_has_its_own(queues: Queues) -> None:
    quick: list[asyncio.Task[object]] = []
    waiting: list[asyncio.Task[object]] = []
    gate = asyncio.Event()

    async def handle(job: Job, _use: None) -> Outcome:
        if job.data["waits"]:
            waiting.append(_task())
            if len(waiting) == 4:
                gate.set()
            await gate.wait()
        else:
            quick.append(_task())
        return Done()

    await enqueue(queues, *(new_job(n, data={"waits": n % 5 == 4}) for n in range(20)))

    await drained(queues, Work(queue=STATUS, handle=handle), slots={STATUS: 4})

    assert len(set(waiting)) == 4, "all four ran at once, each in a task of its own"
    assert len(set(quick)) < len(quick)
    assert await states(queues) == {"completed": 20}


async def test_what_a_handler_sets_in_its_context_is_not_there_for_the_one_that_comes_after_its_wait(
    queues: Queues,
) -> None:
    of_job: ContextVar[str] = ContextVar("of_job", default="nobody")
    seen: list[str] = []

    async def handle(job: Job, _use: None) -> Outcome:
        seen.append(of_job.get())
        await asyncio.sleep(0)
        of_job.set(job.job_id)
        return Done()

    await enqueue(queues, *(new_job(n) for n in range(12)))

    await drained(queues, Work(queue=STATUS, handle=handle), slots={STATUS: 2})

    assert seen == ["nobody"] * 12


async def test_handlers_that_block_let_the_loop_turn_between_them(queues: Queues) -> None:
    """Else nothing is claimed, finished or stopped meanwhile."""
    turns_at_start: list[int] = []
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def handle(_job: Job, _use: None) -> Outcome:
        turns_at_start.append(turns)
        until = time.perf_counter() + 0.002
        while time.perf_counter() < until:
            pass
        return Done()

    await enqueue(queues, *(new_job(n) for n in range(5)))
    turning = asyncio.ensure_future(turn())

    await drained(queues, Work(queue=STATUS, handle=handle), slots={STATUS: 5})

    turning.cancel()
    assert len(set(turns_at_start)) == 5


async def test_a_time_limit_inside_a_handler_stops_that_handler_only(queues: Queues) -> None:
    async def handle(job: Job, _use: None) -> Outcome:
        if job.data["n"] == 1:
            async with asyncio.timeout(0.01):
                await asyncio.Event().wait()
        return Done()

    await enqueue(queues, *(new_job(n, max_attempts=1) for n in range(3)))

    await drained(queues, Work(queue=STATUS, handle=handle), slots={STATUS: 3})

    assert await states(queues) == {"completed": 2, "failed": 1}
    assert (await job_row(queues, "job-1"))["error"]["detail"] == "TimeoutError"


async def test_of_a_batch_queue_those_with_a_handler_of_their_own_come_by_themselves(queues: Queues) -> None:
    ran: list[list[str]] = []

    async def batch(jobs: Sequence[Job], _use: None) -> list[Outcome]:
        ran.append([job.job_id for job in jobs])
        await asyncio.sleep(0)
        return [Done() for _ in jobs]

    async def by_itself(job: Job, _use: None) -> Outcome:
        ran.append([job.job_id])
        await asyncio.sleep(0)
        return Done()

    jobs = [new_job(n, RECEIVE) for n in range(6)]
    jobs[2:4] = [NewJob(queue=RECEIVE, job_id=f"file-{n}", name="fetch", data={}) for n in range(2)]
    await enqueue(queues, *jobs)

    await drained(queues, Work(queue=RECEIVE, handle_batch=batch, alone={"fetch": by_itself}))

    assert ran == [["job-0", "job-1"], ["file-0"], ["file-1"], ["job-4", "job-5"]]
