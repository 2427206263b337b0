"""The drain's own promises: claims that lapse, writes that fail, middlewares, batches, deadlines, sweeps."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from taskiq import TaskiqDepends, TaskiqMessage, TaskiqMiddleware, TaskiqResult

from shared import log
from shared.domain.jobs import Job, QueueName
from shared.domain.outcome import Done, Failure, Outcome
from shared.domain.writes import EnqueueJob, Write
from shared.queues.brokers import QueueModule
from shared.queues.drain import Drain
from shared.queues.finisher import Finisher
from shared.queues.finishing import finish_all
from shared.queues.held import Held
from shared.queues.lane import Lane
from shared.queues.ledger import claim
from shared.queues.outage import Outage
from shared.queues.registry import Work
from shared.queues.runner import conclude
from shared.queues.runtime import Queues
from shared.queues.sweep import sweep
from shared.queues.sweeper import Sweeper
from shared.queues.through_taskiq import runner_for
from tests.integration.drain.conftest import drained, enqueue, job_row, new_job, states

STATUS = QueueName.MESSAGE_STATUS


@dataclass(frozen=True, slots=True, kw_only=True)
class Unheard(Write):
    """A write that nobody knows how to apply."""


async def done(_job: Job, _use: None) -> Outcome:
    return Done()


async def test_one_jobs_bad_write_spoils_no_other(queues: Queues) -> None:
    async def handle(job: Job, _use: None) -> Outcome:
        if job.data["n"] == 2:
            return Done(writes=(Unheard(),))
        return Done(writes=(EnqueueJob(job=new_job(f"of-{job.data['n']}", queue=QueueName.SESSION_CLOSE)),))

    await enqueue(queues, *(new_job(n) for n in (1, 2, 3)))

    await drained(queues, Work(queue=STATUS, handle=handle))

    assert await states(queues) == {"completed": 2, "delayed": 1, "waiting": 2}
    assert (await job_row(queues, "job-2"))["error"]["detail"] == "recording the outcome failed: KeyError"


async def test_a_result_that_is_no_json_is_a_failed_try(queues: Queues) -> None:
    async def handle(_job: Job, _use: None) -> Outcome:
        return Done(result={"not json": float("nan")})

    await enqueue(queues, new_job())

    await drained(queues, Work(queue=STATUS, handle=handle))

    assert (await job_row(queues))["state"] == "delayed"


async def test_a_claim_that_lapsed_while_its_handler_ran_finishes_nothing(queues: Queues) -> None:
    fences = []

    async def handle(job: Job, _use: None) -> Outcome:
        fences.append(job.fence)
        if len(fences) == 1:
            async with queues.pool.acquire() as connection:
                await connection.execute("UPDATE jobs SET lease_until = now() - interval '1 s'")
                await sweep(connection)
            return Done(result={"by": "the first"}, writes=(EnqueueJob(job=new_job("never")),))
        return Done(result={"by": "the second"})

    await enqueue(queues, new_job())

    await drained(queues, Work(queue=STATUS, handle=handle))

    row = await job_row(queues)
    assert len(set(fences)) == 2
    assert (row["result"], row["stalled"], row["attempt"]) == ({"by": "the second"}, 1, 2)
    assert await states(queues) == {"completed": 1}


async def test_of_two_claims_of_a_job_that_end_at_once_only_the_laters_writes_are_kept(queues: Queues) -> None:
    await enqueue(queues, new_job())
    works = {STATUS: Work(queue=STATUS, handle=done)}
    endings = []
    async with queues.pool.acquire() as connection:
        for name in ("late", "new"):
            await connection.execute("UPDATE jobs SET lease_until = now() - interval '1 s' WHERE fence IS NOT NULL")
            await sweep(connection)
            [job] = await claim(connection, slots={STATUS: 1}, worker="test")
            outcome = Done(result={"by": name}, writes=(EnqueueJob(job=new_job(f"of-{name}")),))
            endings.append(conclude(works[STATUS], job, outcome, has_raised=False, duration_s=0))

        await finish_all(queues, connection, works, endings)

        made = await connection.fetch("SELECT job_key, result FROM jobs ORDER BY pk")
    assert [tuple(row) for row in made] == [("job-1", {"by": "new"}), ("job-of-new", None)]


async def test_the_log_says_of_two_claims_of_a_job_that_end_at_once_which_one_was_lost(
    queues: Queues, capsys: pytest.CaptureFixture[str]
) -> None:
    log.configure(level="info", fmt="json")
    await enqueue(queues, new_job())
    works = {STATUS: Work(queue=STATUS, handle=done)}
    finisher = Finisher(queues, works, Held(), outage=Outage("postgres"), on_finished=lambda _finished: None)
    async with queues.pool.acquire() as connection:
        for duration_s in (1, 2):
            await connection.execute("UPDATE jobs SET lease_until = now() - interval '1 s' WHERE fence IS NOT NULL")
            await sweep(connection)
            [job] = await claim(connection, slots={STATUS: 1}, worker="test")
            finisher.add([conclude(works[STATUS], job, Done(), duration_s=duration_s)])
    lane = Lane(queues.pool)
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        group.create_task(finisher.run(lane))
        await asyncio.sleep(0)  # it has begun
        finisher.end()
    await lane.close()

    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(one["msg"], one["duration_ms"]) for one in lines] == [("job_claim_lapsed", 1000), ("job_ended", 2000)]


class Probe(TaskiqMiddleware):
    """Counts what Taskiq tells it."""

    def __init__(self) -> None:
        super().__init__()
        self.before: list[str] = []
        self.after: list[tuple[str, Any]] = []

    def pre_execute(self, message: TaskiqMessage) -> TaskiqMessage:
        self.before.append(message.task_id)
        assert message.task_name == "message:status"
        return message

    def post_execute(self, message: TaskiqMessage, result: TaskiqResult[Any]) -> None:
        self.after.append((message.task_id, result.return_value))


def module(work: Work, queues: Queues) -> QueueModule:
    return QueueModule(work, open_resources=lambda _queues: asyncio.timeout(None), every_work=dict)


async def test_a_middleware_sees_each_job_once_before_and_once_after(queues: Queues) -> None:
    work = Work(queue=STATUS, handle=done)
    broker = module(work, queues).broker
    probe = Probe()
    broker.add_middlewares(probe)
    await enqueue(queues, *(new_job(n) for n in range(20)))

    await drained(queues, work, execute=runner_for(broker))

    names = {f"job-{n}" for n in range(20)}
    assert sorted(probe.before) == sorted(names)
    assert sorted(name for name, _ in probe.after) == sorted(names)
    assert all(value == Done() for _, value in probe.after)
    assert await states(queues) == {"completed": 20}


async def test_a_handler_behind_a_middleware_that_raises_has_failed_a_try(queues: Queues) -> None:
    async def handle(_job: Job, _use: None) -> Outcome:
        raise ValueError

    work = Work(queue=STATUS, handle=handle)
    broker = module(work, queues).broker
    broker.add_middlewares(Probe())
    await enqueue(queues, new_job())

    await drained(queues, work, execute=runner_for(broker))

    assert (await job_row(queues))["error"]["detail"] == "ValueError"


def give_number() -> int:
    return 42


async def test_a_handler_gets_its_taskiq_dependencies(queues: Queues) -> None:
    async def handle(_job: Job, _use: None, number: int = TaskiqDepends(give_number)) -> Outcome:
        return Done(result={"number": number})

    work = Work(queue=STATUS, handle=handle)
    await enqueue(queues, new_job())

    await drained(queues, work, execute=runner_for(module(work, queues).broker))

    assert (await job_row(queues))["result"] == {"number": 42}


async def test_a_plain_broker_runs_handlers_directly(queues: Queues) -> None:
    assert runner_for(module(Work(queue=STATUS, handle=done), queues).broker) is None


async def test_no_more_run_at_once_than_there_are_slots(queues: Queues) -> None:
    running = peak = 0

    async def handle(_job: Job, _use: None) -> Outcome:
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        await asyncio.sleep(0)
        running -= 1
        return Done()

    await enqueue(queues, *(new_job(n) for n in range(50)))

    await drained(queues, Work(queue=STATUS, handle=handle), slots={STATUS: 4})

    assert peak == 4
    assert await states(queues) == {"completed": 50}


async def test_the_most_urgent_queue_is_claimed_first(queues: Queues) -> None:
    order: list[QueueName] = []

    async def handle(job: Job, _use: None) -> Outcome:
        order.append(job.queue)
        return Done()

    await enqueue(queues, new_job(1, queue=STATUS), new_job(2, queue=QueueName.SESSION_CLOSE))

    await drained(queues, Work(queue=STATUS, handle=handle), Work(queue=QueueName.SESSION_CLOSE, handle=handle))

    assert order == [QueueName.SESSION_CLOSE, STATUS]


async def test_a_drain_past_its_deadline_gives_back_what_began_late_and_still_runs(queues: Queues) -> None:
    async def handle(job: Job, _use: None) -> Outcome:
        if job.data["n"] == 1:
            await asyncio.sleep(0.3)
            return Done()
        await asyncio.Event().wait()
        raise AssertionError

    await enqueue(queues, new_job(1), new_job(2))
    drain = Drain(queues, {STATUS: Work(queue=STATUS, handle=handle)}, None, slots={STATUS: 1}, worker="test")
    left = await drain.until_idle(deadline_s=0.6)

    row = await job_row(queues, "job-2")
    assert left == 0
    assert (row["state"], row["attempt"]) == ("waiting", 0)


async def test_a_sweep_tells_the_queues_hook_of_an_expired_job_in_the_same_commit(queues: Queues) -> None:
    def on_ended(data: Mapping[str, Any], failure: Failure) -> list[Write]:
        return [EnqueueJob(job=new_job(f"told-{failure.code}", queue=QueueName.SESSION_CLOSE, data=data))]

    await enqueue(queues, new_job(expires_at=datetime.now(UTC) - timedelta(seconds=1)))

    await _sweep(queues, Work(queue=STATUS, handle=done, on_ended=on_ended))

    assert (await job_row(queues))["state"] == "cancelled"
    assert (await job_row(queues, "job-told-EXPIRED"))["data"] == {"n": 1}


async def test_a_hook_that_fails_for_one_job_keeps_no_other_from_ending(queues: Queues) -> None:
    def on_ended(data: Mapping[str, Any], _failure: Failure) -> list[Write]:
        if data["n"] == 1:
            raise ValueError
        return [Unheard() if data["n"] == 2 else EnqueueJob(job=new_job("told", queue=QueueName.SESSION_CLOSE))]

    past = datetime.now(UTC) - timedelta(seconds=1)
    await enqueue(queues, *(new_job(n, expires_at=past) for n in (1, 2, 3)))

    await _sweep(queues, Work(queue=STATUS, handle=done, on_ended=on_ended))

    assert await states(queues) == {"cancelled": 3, "waiting": 1}


async def _sweep(queues: Queues, work: Work) -> None:
    sweeper = Sweeper(queues, {work.queue: work}, outage=Outage("test"), on_turn=lambda: None)
    async with queues.pool.acquire() as connection:
        await sweeper.sweep_once(connection)


async def test_only_a_claim_commits_without_waiting_for_the_disk(queues: Queues) -> None:
    await enqueue(queues, new_job())
    async with queues.pool.acquire() as connection:
        await connection.execute("SET synchronous_commit = on")
        async with connection.transaction():
            await claim(connection, slots={STATUS: 1}, worker="test")
            claiming = await connection.fetchval("SHOW synchronous_commit")
        afterwards = await connection.fetchval("SHOW synchronous_commit")

    assert (claiming, afterwards) == ("off", "on")


async def test_what_falls_due_while_a_drain_without_a_sweeper_works_is_run_before_it_is_idle(queues: Queues) -> None:
    async def handle(job: Job, _use: None) -> Outcome:
        if job.job_id == "job-1":  # as long as this takes, the other one falls due
            await queues.pool.execute("UPDATE jobs SET run_at = now() WHERE state = 'delayed'")
        return Done()

    await enqueue(queues, new_job(1), new_job(2, run_at=datetime.now(UTC) + timedelta(hours=1)))

    due_s = await drained(queues, Work(queue=STATUS, handle=handle))

    assert due_s is None
    assert await states(queues) == {"completed": 2}
