"""Each outcome of a handler, through the real drain and the real ledger."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from shared.domain.errors import HostUnreachable
from shared.domain.jobs import Job, QueueName
from shared.domain.outcome import Discard, Done, Failure, Outcome, Park, Retry, Snooze, Unknown
from shared.domain.writes import EnqueueJob
from shared.queues.registry import Work
from shared.queues.runtime import Queues
from tests.integration.drain.conftest import drained, enqueue, job_row, new_job, states

STATUS = QueueName.MESSAGE_STATUS
FAILURE = Failure(code="HOST_UNREACHABLE", detail="no answer")


def returning(outcome: Outcome) -> Work:
    async def handle(_job: Job, _use: None) -> Outcome:
        return outcome

    return Work(queue=STATUS, handle=handle)


async def test_done_completes_the_job_with_its_result(queues: Queues) -> None:
    await enqueue(queues, new_job())

    due_s = await drained(queues, returning(Done(result={"stored": 3})))

    row = await job_row(queues)
    assert (row["state"], row["result"], row["attempt"]) == ("completed", {"stored": 3}, 1)
    assert due_s is None


async def test_retry_waits_for_the_queues_next_delay_and_says_when_it_is_due(queues: Queues) -> None:
    await enqueue(queues, new_job())

    due_s = await drained(queues, returning(Retry(failure=FAILURE)))

    row = await job_row(queues)
    assert (row["state"], row["attempt"], row["error"]["code"]) == ("delayed", 1, "HOST_UNREACHABLE")
    assert due_s == pytest.approx(2, abs=0.5)


async def test_a_retrys_own_delay_is_taken_before_the_queues(queues: Queues) -> None:
    await enqueue(queues, new_job())

    due_s = await drained(queues, returning(Retry(failure=FAILURE, delay_s=40)))

    assert due_s == pytest.approx(40, abs=1)


async def test_a_job_whose_last_try_fails_is_dead_and_only_its_last_writes_count(queues: Queues) -> None:
    outcome = Retry(
        failure=FAILURE,
        delay_s=0,
        writes=(EnqueueJob(job=new_job("tried")),),
        last_writes=(EnqueueJob(job=new_job("given-up", queue=QueueName.SESSION_CLOSE)),),
    )
    await enqueue(queues, new_job(max_attempts=1))

    await drained(queues, returning(outcome))

    assert (await job_row(queues))["state"] == "failed"
    assert (await job_row(queues, "job-given-up"))["state"] == "waiting"
    assert await states(queues) == {"failed": 1, "waiting": 1}


async def test_park_keeps_the_job_in_its_place_and_gives_the_attempt_back(queues: Queues) -> None:
    session = await _session(queues, status="disconnected")
    job = new_job(queue=QueueName.MESSAGE_SEND, group=session)
    await enqueue(queues, job)

    async def handle(_job: Job, _use: None) -> Outcome:
        return Park(reason="connection_offline")

    await drained(queues, Work(queue=QueueName.MESSAGE_SEND, handle=handle))

    row = await job_row(queues)
    assert (row["state"], row["attempt"]) == ("waiting", 0)
    assert await queues.pool.fetchval("SELECT reasons FROM job_groups") == ["connection_offline"]


async def test_a_park_that_finds_the_session_online_again_runs_at_once(queues: Queues) -> None:
    session = await _session(queues, status="connected")
    await enqueue(queues, new_job(queue=QueueName.MESSAGE_SEND, group=session))
    tries: list[int] = []

    async def handle(job: Job, _use: None) -> Outcome:
        tries.append(job.attempt)
        return Park(reason="connection_offline") if len(tries) == 1 else Done()

    await drained(queues, Work(queue=QueueName.MESSAGE_SEND, handle=handle))

    assert tries == [1, 1]
    assert (await job_row(queues))["state"] == "completed"


async def test_snooze_looks_again_later_and_gives_the_attempt_back(queues: Queues) -> None:
    await enqueue(queues, new_job())

    due_s = await drained(queues, returning(Snooze(delay_s=30)))

    row = await job_row(queues)
    assert (row["state"], row["attempt"]) == ("delayed", 0)
    assert due_s == pytest.approx(30, abs=1)


async def test_discard_cancels_and_with_a_failure_it_is_a_dead_letter(queues: Queues) -> None:
    await enqueue(queues, new_job(1))
    await drained(queues, returning(Discard(reason="message_canceled")))
    await enqueue(queues, new_job(2))
    await drained(queues, returning(Discard(reason="bad_number", failure=FAILURE)))

    assert (await job_row(queues, "job-1"))["state"] == "cancelled"
    row = await job_row(queues, "job-2")
    assert (row["state"], row["error"]["code"]) == ("failed", "HOST_UNREACHABLE")


async def test_unknown_holds_the_job_and_counts_the_attempt(queues: Queues) -> None:
    await enqueue(queues, new_job(max_attempts=1))

    due_s = await drained(queues, returning(Unknown(failure=FAILURE, hold_s=30)))

    row = await job_row(queues)
    assert (row["state"], row["attempt"]) == ("delayed", 1)
    assert due_s == pytest.approx(30, abs=1)


async def test_a_handler_that_raises_has_failed_a_try_and_its_message_is_not_recorded(queues: Queues) -> None:
    async def handle(_job: Job, _use: None) -> Outcome:
        raise ValueError("5511999998888 said: secret")

    await enqueue(queues, new_job())

    await drained(queues, Work(queue=STATUS, handle=handle))

    row = await job_row(queues)
    assert (row["state"], row["attempt"]) == ("delayed", 1)
    assert row["error"] == {"code": "INTERNAL", "detail": "ValueError", "retryable": True}


async def test_an_error_of_ours_speaks_for_itself(queues: Queues) -> None:
    async def handle(_job: Job, _use: None) -> Outcome:
        raise HostUnreachable("The session's host does not answer.")

    await enqueue(queues, new_job())

    await drained(queues, Work(queue=STATUS, handle=handle))

    assert (await job_row(queues))["error"]["code"] == "HOST_UNREACHABLE"


async def test_a_last_try_that_raises_asks_the_queues_hook_what_becomes_of_its_rows(queues: Queues) -> None:
    async def handle(_job: Job, _use: None) -> Outcome:
        raise ValueError

    def on_ended(data: object, failure: Failure) -> list[EnqueueJob]:
        return [EnqueueJob(job=new_job(f"told-{failure.code}", queue=QueueName.SESSION_CLOSE, data=data))]

    await enqueue(queues, new_job(max_attempts=1))

    await drained(queues, Work(queue=STATUS, handle=handle, on_ended=on_ended))

    assert (await job_row(queues))["state"] == "failed"
    assert (await job_row(queues, "job-told-INTERNAL"))["data"] == {"n": 1}


async def test_a_handler_that_returns_nothing_has_failed_a_try(queues: Queues) -> None:
    async def handle(_job: Job, _use: None) -> Outcome:
        return None  # type: ignore[return-value]  # the mistake under test

    await enqueue(queues, new_job())

    await drained(queues, Work(queue=STATUS, handle=handle))

    assert (await job_row(queues))["state"] == "delayed"


async def test_an_enqueued_job_rides_in_the_same_commit_and_runs_in_the_same_drain(queues: Queues) -> None:
    async def first(_job: Job, _use: None) -> Outcome:
        return Done(writes=(EnqueueJob(job=new_job("next", queue=QueueName.SESSION_CLOSE)),))

    async def second(_job: Job, _use: None) -> Outcome:
        return Done()

    await enqueue(queues, new_job())

    await drained(queues, Work(queue=STATUS, handle=first), Work(queue=QueueName.SESSION_CLOSE, handle=second))

    assert await states(queues) == {"completed": 2}


async def test_a_batch_handler_gets_the_jobs_of_one_claim_in_order(queues: Queues) -> None:
    batches: list[list[int]] = []

    async def handle(jobs: Sequence[Job], _use: None) -> list[Outcome]:
        batches.append([job.data["n"] for job in jobs])
        return [Done(result={"n": job.data["n"]}) for job in jobs]

    await enqueue(queues, *(new_job(n) for n in range(1, 6)))

    await drained(queues, Work(queue=STATUS, handle_batch=handle))

    assert batches == [[1, 2, 3, 4, 5]]
    assert (await job_row(queues, "job-4"))["result"] == {"n": 4}


async def test_poison_in_a_batch_spoils_no_other_job(queues: Queues) -> None:
    async def handle(jobs: Sequence[Job], _use: None) -> list[Outcome]:
        return [Done(result={"n": int(job.data["n"])}) for job in jobs]

    await enqueue(queues, new_job(1), new_job("poison"), new_job(3))

    await drained(queues, Work(queue=STATUS, handle_batch=handle))

    assert (await job_row(queues, "job-poison"))["error"]["detail"] == "ValueError"
    assert await states(queues) == {"completed": 2, "delayed": 1}


async def test_a_job_for_later_is_left_and_its_time_is_told(queues: Queues) -> None:
    await enqueue(queues, new_job(run_at=datetime.now(UTC) + timedelta(seconds=90)))

    due_s = await drained(queues, returning(Done()))

    assert due_s == pytest.approx(90, abs=2)
    assert await states(queues) == {"delayed": 1}


async def _session(queues: Queues, *, status: str) -> str:
    session = await queues.pool.fetchval(
        "INSERT INTO connections (id, tenant_id, label, status) "
        "VALUES (gen_random_uuid(), '00000000-0000-0000-0000-000000000000', 'test', $1) RETURNING id",
        status,
    )
    return str(session)
