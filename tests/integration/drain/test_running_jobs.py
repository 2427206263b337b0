"""What happens to jobs while they run: their time is over, somebody cancels them, they say how far they are."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from functions import maintenance_cleanup, message_send
from shared.db.pool import connect
from shared.domain.jobs import Job, NewJob, QueueName
from shared.domain.outcome import Discard, Done, Failure, Outcome, Retry
from shared.domain.writes import EnqueueJob
from shared.queues import admin, heartbeat, ledger, running
from shared.queues.admin import Cancellation
from shared.queues.drain import Drain
from shared.queues.heartbeat import Heartbeat
from shared.queues.registry import Work
from shared.queues.runtime import Queues
from tests.integration.drain.conftest import drained, enqueue, job_row, new_job, states, until

STATUS = QueueName.MESSAGE_STATUS
FAILURE = Failure(code="HOST_UNREACHABLE", detail="no answer")


async def forever(_job: Job, _use: None) -> Outcome:
    await asyncio.Event().wait()
    raise AssertionError


# ---- timeouts


async def test_a_try_past_its_timeout_is_stopped_and_has_failed(queues: Queues) -> None:
    await enqueue(queues, new_job(timeout_s=0.05))

    due_s = await drained(queues, Work(queue=STATUS, handle=forever))

    row = await job_row(queues)
    assert (row["state"], row["attempt"], row["error"]["code"]) == ("delayed", 1, "TIMEOUT")
    assert due_s == pytest.approx(2, abs=0.5)


async def test_one_that_is_enqueued_by_itself_has_its_timeout_too(queues: Queues) -> None:
    await queues.enqueue(new_job(timeout_s=0.05))

    await drained(queues, Work(queue=STATUS, handle=forever))

    assert (await job_row(queues))["error"]["code"] == "TIMEOUT"


async def test_a_handler_that_is_stopped_may_end_cleanly_and_its_slot_is_free_again(queues: Queues) -> None:
    cleaned: list[str] = []

    async def handle(job: Job, _use: None) -> Outcome:
        if job.timeout_s is None:
            return Done()
        try:
            return await forever(job, None)
        finally:
            await asyncio.sleep(0)
            cleaned.append(job.job_id)

    await enqueue(queues, new_job(1, timeout_s=0.05), new_job(2))

    await drained(queues, Work(queue=STATUS, handle=handle), slots={STATUS: 1})

    assert cleaned == ["job-1"]
    assert await states(queues) == {"delayed": 1, "completed": 1}


async def test_a_last_try_that_takes_too_long_asks_the_queues_hook(queues: Queues) -> None:
    def on_ended(_data: Mapping[str, Any], failure: Failure) -> list[EnqueueJob]:
        return [EnqueueJob(job=new_job(f"told-{failure.code}", queue=QueueName.SESSION_CLOSE))]

    await enqueue(queues, new_job(timeout_s=0.05, max_attempts=1))

    await drained(queues, Work(queue=STATUS, handle=forever, on_ended=on_ended))

    assert (await job_row(queues))["state"] == "failed"
    assert (await job_row(queues, "job-told-TIMEOUT"))["state"] == "waiting"


async def test_a_send_that_takes_too_long_is_looked_up_and_never_a_dead_letter(queues: Queues) -> None:
    work = Work(queue=STATUS, handle=forever, on_timeout=message_send.queue.work.on_timeout)
    await enqueue(queues, new_job(timeout_s=0.05, max_attempts=1))

    await drained(queues, work)

    row = await job_row(queues)
    assert (row["state"], row["attempt"], row["error"]["code"]) == ("delayed", 1, "TIMEOUT")


async def test_a_cleanup_that_takes_too_long_goes_on_in_another_try(queues: Queues) -> None:
    tries: list[int] = []

    async def handle(job: Job, use: None) -> Outcome:
        tries.append(job.attempt)
        return await forever(job, use) if len(tries) == 1 else Done()

    on_timeout = maintenance_cleanup.queue.work.on_timeout
    await enqueue(queues, new_job(timeout_s=0.05, max_attempts=1))

    await drained(queues, Work(queue=STATUS, handle=handle, on_timeout=on_timeout))

    assert tries == [1, 1]
    assert (await job_row(queues))["state"] == "completed"


async def test_the_slow_job_of_a_batch_spoils_no_other(queues: Queues) -> None:
    async def handle(jobs: Sequence[Job], _use: None) -> list[Outcome]:
        if any(job.data["n"] == 2 for job in jobs):
            await asyncio.Event().wait()
        return [Done() for _ in jobs]

    await enqueue(queues, *(new_job(n, timeout_s=0.1 if n == 2 else None) for n in range(4)))

    await drained(queues, Work(queue=STATUS, handle_batch=handle))

    assert (await job_row(queues, "job-2"))["error"]["code"] == "TIMEOUT"
    assert await states(queues) == {"delayed": 1, "completed": 3}


async def test_a_job_that_takes_a_whole_invocation_has_failed_a_try(queues: Queues) -> None:
    await enqueue(queues, new_job())
    drain = Drain(queues, {STATUS: Work(queue=STATUS, handle=forever)}, None, slots={STATUS: 1}, worker="test")

    await drain.until_idle(deadline_s=0.6)

    row = await job_row(queues)
    assert (row["state"], row["error"]["code"]) == ("delayed", "TIMEOUT")


# ---- progress


async def test_progress_is_shown_while_the_job_runs_and_stays_when_it_has_ended(queues: Queues) -> None:
    seen: list[Any] = []

    async def handle(job: Job, _use: None) -> Outcome:
        job.progress.report(10)
        job.progress.report(40)
        await until(lambda: _shows(queues, 40))
        job.progress.report({"rows": 3})
        seen.append(40)
        return Done()

    async with working(queues, handle) as job_id:
        await until(lambda: _is(queues, "completed"))

    async with queues.pool.acquire() as connection:
        shown = await admin.get_job(connection, job_id)
    assert shown is not None
    assert (seen, shown.progress) == ([40], {"rows": 3})


async def test_the_next_try_begins_without_the_progress_of_the_one_before(queues: Queues) -> None:
    begun_with: list[Any] = []

    async def handle(job: Job, _use: None) -> Outcome:
        begun_with.append((await job_row(queues))["progress"])
        job.progress.report(50)
        return Retry(failure=FAILURE, delay_s=0) if len(begun_with) == 1 else Done()

    await enqueue(queues, new_job())

    await drained(queues, Work(queue=STATUS, handle=handle))

    assert begun_with == [None, None]
    assert (await job_row(queues))["progress"] == 50


async def test_a_claim_that_was_lost_reports_nothing(queues: Queues) -> None:
    await enqueue(queues, new_job())
    async with queues.pool.acquire() as connection:
        [job] = await ledger.claim(connection, slots={STATUS: 1}, worker="test")
        await running.report_progress(connection, [running.Report(pk=job.pk, fence=job.fence - 1, value=7)])

    assert (await job_row(queues))["progress"] is None


# ---- cancelling


async def test_a_job_that_runs_is_stopped_and_cancelled_on_request(queues: Queues) -> None:
    async with working(queues, forever) as job_id:
        answer = await cancel(queues, job_id)
        await until(lambda: _is(queues, "cancelled"))

    assert answer is Cancellation.STOPPING
    assert (await job_row(queues))["error"]["code"] == "CANCELED"


async def test_a_job_that_was_cancelled_while_it_ran_is_not_tried_again(queues: Queues) -> None:
    tries: list[int] = []

    async def handle(job: Job, _use: None) -> Outcome:
        tries.append(job.attempt)
        await cancel(queues, job.job_id)
        return Retry(failure=FAILURE, delay_s=0)

    await enqueue(queues, new_job())

    await drained(queues, Work(queue=STATUS, handle=handle))

    assert tries == [1]
    assert (await job_row(queues))["state"] == "cancelled"


async def test_a_dead_letter_that_was_cancelled_while_it_ran_may_run_again(queues: Queues) -> None:
    tries: list[int] = []

    async def handle(job: Job, _use: None) -> Outcome:
        tries.append(job.attempt)
        if len(tries) == 1:
            await cancel(queues, job.job_id)
            return Discard(reason="bad", failure=FAILURE)
        return Done()

    work = Work(queue=STATUS, handle=handle)
    await enqueue(queues, new_job())
    await drained(queues, work)

    async with queues.pool.acquire() as connection:
        await admin.retry_failed(connection, STATUS)
    await drained(queues, work)

    assert tries == [1, 1]
    assert (await job_row(queues))["state"] == "completed"


async def test_a_send_that_is_being_tried_cannot_be_cancelled(queues: Queues) -> None:
    answers: list[Cancellation] = []

    async def handle(job: Job, _use: None) -> Outcome:
        answers.append(await cancel(queues, job.job_id))
        return Done()

    await enqueue(queues, new_job(queue=QueueName.MESSAGE_SEND))

    await drained(queues, Work(queue=QueueName.MESSAGE_SEND, handle=handle))

    assert answers == [Cancellation.TOO_LATE]
    assert (await job_row(queues))["state"] == "completed"


async def test_a_job_that_waits_is_cancelled_at_once_and_one_that_ended_is_not(queues: Queues) -> None:
    await enqueue(queues, new_job())

    assert await cancel(queues, "job-1") is Cancellation.CANCELED
    assert await cancel(queues, "job-1") is Cancellation.TOO_LATE


class Nobody:
    """A timekeeper whom nobody needs."""

    def soon(self) -> None: ...
    def due_in(self, seconds: float) -> None: ...


@asynccontextmanager
async def working(queues: Queues, handle: Any) -> AsyncIterator[str]:
    """A drain with its heartbeat that has begun one job, whose id is given."""
    begun = asyncio.Event()

    async def handle_noticed(job: Job, use: None) -> Outcome:
        begun.set()
        outcome: Outcome = await handle(job, use)
        return outcome

    job: NewJob = new_job()
    await enqueue(queues, job)
    drain = Drain(queues, {STATUS: Work(queue=STATUS, handle=handle_noticed)}, None, slots={STATUS: 1}, worker="test")
    beats = Heartbeat(queues.settings.database_url, drain.held, on_lost=drain.lose, on_canceled=drain.cancel)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(heartbeat, "HEARTBEAT_S", 0.3)
        beats.start()
        try:
            async with asyncio.timeout(20), asyncio.TaskGroup() as group:
                group.create_task(drain.run(timekeeper=Nobody(), grace_s=0))
                await begun.wait()
                yield job.job_id
                drain.close()
        finally:
            beats.stop()
            beats._thread.join(5)


async def cancel(queues: Queues, job_id: str) -> Cancellation:
    async with connect(queues.settings.database_url) as connection:
        job = await admin.get_job(connection, job_id)
        assert job is not None
        return await admin.cancel_job(connection, job.pk)


async def _shows(queues: Queues, progress: Any) -> bool:
    return bool((await job_row(queues))["progress"] == progress)


async def _is(queues: Queues, state: str) -> bool:
    return bool((await job_row(queues))["state"] == state)
