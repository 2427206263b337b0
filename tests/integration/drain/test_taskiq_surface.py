"""What Taskiq's users and AWS see: `kiq`, the task's name, the brokers, the scheduler, the Lambda entry."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from taskiq.scheduler.scheduled_task import ScheduledTask

from functions import maintenance_cleanup, message_send, message_status, scheduler, worker
from functions.resources import open_resources
from shared.domain.errors import InvalidInput
from shared.domain.jobs import Job, QueueName
from shared.domain.outcome import Done, Outcome
from shared.queues import ledger
from shared.queues.brokers import QueueModule
from shared.queues.registry import Work
from shared.queues.runtime import Queues, set_current
from shared.settings import Settings, load
from tests.integration.drain.conftest import enqueue, job_row, new_job, states


@pytest.fixture
async def current(queues: Queues) -> AsyncIterator[Queues]:
    set_current(queues)
    yield queues
    set_current(None)


@pytest.fixture
def from_environment(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """The settings as a process reads them."""
    monkeypatch.setenv("ZAPHUB_DATABASE_URL", settings.database_url)
    monkeypatch.setenv("ZAPHUB_TRANSPORT", "memory")
    monkeypatch.setenv("ZAPHUB_SECRET_KEY", "s" * 32)
    load.cache_clear()
    monkeypatch.setattr("shared.queues.lambda_entry.configure", lambda **_: None)
    return load.cache_clear


def test_every_queue_has_a_task_of_its_name_and_the_worker_serves_them_all() -> None:
    assert set(worker.works) == set(QueueName)
    assert set(worker.broker.local_task_registry) == {queue.value for queue in QueueName}
    assert message_send.task.task_name == "message:send"
    assert set(message_send.broker.works) == {QueueName.MESSAGE_SEND}


async def test_kiq_makes_one_ledger_job_and_answers_with_its_readable_id(current: Queues) -> None:
    data = {"sessionId": "s-1", "waMessageId": "3EB0", "status": "read", "timestamp": 1}

    first = await message_status.task.kiq(**data)
    second = await message_status.task.kiq(**data)

    assert first.task_id == second.task_id == "msg-status-s-1-3EB0-read"
    assert (await job_row(current, first.task_id))["data"] == data
    assert await states(current) == {"waiting": 1}


async def test_kiq_rings_after_its_commit(current: Queues) -> None:
    await message_status.task.kiq(sessionId="s-1", waMessageId="3EB0", status="read", timestamp=1)

    assert await current.bell.wait([QueueName.MESSAGE_STATUS]) == {QueueName.MESSAGE_STATUS}


async def test_kiq_of_data_that_name_nothing_gets_an_id_of_its_own(current: Queues) -> None:
    task = await message_status.task.kiq(poison=True)

    assert task.task_id.startswith("message-status-")
    assert (await job_row(current, task.task_id))["data"] == {"poison": True}


async def test_kiq_takes_its_data_by_name_only(current: Queues) -> None:
    with pytest.raises(InvalidInput):
        await message_status.task.kiq("s-1")


async def test_two_schedulers_make_one_cleanup_job_a_slot(current: Queues) -> None:
    source = scheduler.SettingsSource()
    slot = ScheduledTask(
        task_name="maintenance:cleanup", labels={}, args=[], kwargs={"slot": "20260101T0300Z"}, cron="* * * * *"
    )

    await asyncio.gather(*(scheduler.scheduler.on_ready(source, slot) for _ in range(2)))
    await current.pool.execute("UPDATE jobs SET state = 'completed', dedupe = NULL, finished_at = now()")
    await scheduler.scheduler.on_ready(source, slot)

    assert (await job_row(current, "cleanup-20260101T0300Z"))["name"] == "cleanup"
    assert await states(current) == {"completed": 1}


async def test_the_scheduler_follows_the_cron_of_the_settings(
    from_environment: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZAPHUB_CLEANUP_CRON", "5 4 * * *")
    from_environment()

    [schedule] = await scheduler.SettingsSource().get_schedules()

    assert (schedule.task_name, schedule.cron, schedule.task_id) == ("maintenance:cleanup", "5 4 * * *", None)


class Context:
    """AWS's, as far as we ask it."""

    def get_remaining_time_in_millis(self) -> int:
        return 9000


async def test_a_lambda_drains_its_queue_when_an_sqs_event_rings(
    queues: Queues, from_environment: Callable[[], None]
) -> None:
    async def handle(_job: Job, _use: None) -> Outcome:
        return Done()

    module = QueueModule(
        Work(queue=QueueName.MESSAGE_STATUS, handle=handle),
        open_resources=lambda _queues: asyncio.timeout(None),
        every_work=dict,
    )
    event = {"Records": [{"messageId": "1", "body": "1"}]}
    await enqueue(queues, *(new_job(n) for n in range(12)))

    answers = [await asyncio.to_thread(module.handler, event, Context()) for _ in range(2)]

    await asyncio.to_thread(module.handler.close)
    assert answers == [{"batchItemFailures": []}] * 2
    assert await states(queues) == {"completed": 12}


async def test_a_cleanup_deletes_what_is_old_and_keeps_the_newest_completed_jobs(current: Queues) -> None:
    await enqueue(current, *(new_job(n) for n in range(103)), new_job("dead"), new_job("live"))
    await current.pool.execute(
        "UPDATE jobs SET dedupe = NULL, finished_at = now() - interval '8 days', "
        "state = CASE job_key WHEN 'job-dead' THEN 'failed' ELSE 'completed' END WHERE job_key <> 'job-live'"
    )
    await current.pool.execute(
        "INSERT INTO idempotency_keys (tenant_id, scope, key, body_hash, response, created_at) "
        "SELECT '00000000-0000-0000-0000-000000000000', 's', n::text, '', '{}', now() - n * interval '20 hours' "
        "FROM generate_series(0, 2) n"
    )

    await enqueue(current, new_job("cleanup", queue=QueueName.MAINTENANCE_CLEANUP))
    async with open_resources(current) as use, current.pool.acquire() as connection:
        [job] = await ledger.claim(connection, slots={QueueName.MAINTENANCE_CLEANUP: 1}, worker="test")
        outcome = await maintenance_cleanup.handle(job, use)

    assert isinstance(outcome, Done)
    assert job.progress.news() == outcome.result
    assert await states(current) == {"completed": 100, "waiting": 1, "active": 1}
    assert outcome.result is not None
    assert (outcome.result["jobs"], outcome.result["idempotency_keys"]) == (4, 1)
