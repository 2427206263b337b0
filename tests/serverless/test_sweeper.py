"""The sweeper function, started every minute: what lapsed, fell due or ended is seen to, and the queues are rung."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping

import pytest

from functions.worker import works
from shared.domain.ids import DEFAULT_TENANT
from shared.domain.jobs import NewJob, QueueName
from shared.log import configure
from shared.queues import ledger
from shared.queues.lambda_sweep import SweepEntry
from shared.queues.policies import Runtime
from shared.queues.runtime import Queues
from tests.serverless.conftest import Invocation
from tests.sqs import Bells, bells_in

RECEIVE, SEND, STATUS = QueueName.MESSAGE_RECEIVE, QueueName.MESSAGE_SEND, QueueName.MESSAGE_STATUS
SILENT = Bells(ready=0, hidden=0, delayed=0)


@pytest.fixture
async def sweep(settings_on_aws: None) -> AsyncIterator[SweepEntry]:
    """A container of its own, as AWS starts one."""
    entry = SweepEntry(works)
    yield entry
    await asyncio.to_thread(entry.close)


async def _invoke(sweep: SweepEntry) -> dict[str, object]:
    return await asyncio.to_thread(sweep, {}, Invocation())


async def _job(queues: Queues, queue: QueueName = STATUS) -> NewJob:
    """A job that nobody was told of."""
    job = NewJob(queue=queue, job_id="a-job", name="test", data={}, max_attempts=3)
    async with queues.pool.acquire() as connection:
        await ledger.enqueue(connection, [job])
    return job


async def test_nothing_to_do_rings_nobody(sweep: SweepEntry, sqs_urls: Mapping[QueueName, str]) -> None:
    assert await _invoke(sweep) == {"ended": 0}
    assert {bells_in(url) for url in sqs_urls.values()} == {SILENT}


async def test_work_that_nobody_was_told_of_is_rung_for(
    sweep: SweepEntry, queues: Queues, sqs_urls: Mapping[QueueName, str]
) -> None:
    await _job(queues)

    await _invoke(sweep)

    assert bells_in(sqs_urls[STATUS]).ready == 1
    assert bells_in(sqs_urls[RECEIVE]) == SILENT


async def test_the_job_of_a_container_that_died_is_taken_back(
    sweep: SweepEntry, queues: Queues, sqs_urls: Mapping[QueueName, str]
) -> None:
    await _job(queues)
    async with queues.pool.acquire() as connection:
        [claimed] = await ledger.claim(connection, slots={STATUS: 1}, worker="gone", runtime=Runtime.LAMBDA)
        await connection.execute("UPDATE jobs SET lease_until = now() - interval '1 second'")

    await _invoke(sweep)

    assert bells_in(sqs_urls[STATUS]).ready == 1
    row = await queues.pool.fetchrow("SELECT state, attempt FROM jobs WHERE pk = $1", claimed.pk)
    assert row is not None
    assert (row["state"], row["attempt"]) == ("waiting", 1)


async def test_what_falls_due_before_the_next_minute_is_rung_for_then(
    sweep: SweepEntry, queues: Queues, sqs_urls: Mapping[QueueName, str]
) -> None:
    await _job(queues)
    await queues.pool.execute("UPDATE jobs SET state = 'delayed', run_at = now() + interval '30 seconds'")

    await _invoke(sweep)

    assert bells_in(sqs_urls[STATUS]) == Bells(ready=0, hidden=0, delayed=1)


async def test_what_falls_due_later_is_left_to_a_later_minute(
    sweep: SweepEntry, queues: Queues, sqs_urls: Mapping[QueueName, str]
) -> None:
    await _job(queues)
    await queues.pool.execute("UPDATE jobs SET state = 'delayed', run_at = now() + interval '2 minutes'")

    await _invoke(sweep)

    assert bells_in(sqs_urls[STATUS]) == SILENT


async def test_an_expired_job_ends(sweep: SweepEntry, queues: Queues) -> None:
    await _job(queues)
    await queues.pool.execute("UPDATE jobs SET expires_at = now() - interval '1 second'")

    assert await _invoke(sweep) == {"ended": 1}


async def test_the_queues_are_judged(sweep: SweepEntry, queues: Queues) -> None:
    await _invoke(sweep)

    assert await queues.pool.fetchval("SELECT count(*) FROM watch WHERE looked_at > now() - interval '1 minute'")


async def test_a_container_whose_connections_died_while_it_was_frozen_goes_on(
    sweep: SweepEntry, queues: Queues, sqs_urls: Mapping[QueueName, str]
) -> None:
    await _invoke(sweep)
    await queues.pool.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    await _job(queues)

    await _invoke(sweep)

    assert bells_in(sqs_urls[STATUS]).ready == 1


async def test_sessions_that_should_be_connected_and_are_not_are_counted_for_the_alarm(
    sweep: SweepEntry, queues: Queues, capsys: pytest.CaptureFixture[str]
) -> None:
    configure(level="info", fmt="json")
    await queues.pool.execute(
        """
        INSERT INTO connections (id, tenant_id, label, status, desired, device_jid, host_id, lease_epoch, lease_until)
        SELECT gen_random_uuid(), $1, 'a', status, desired, device, host, 1, now() + lease * interval '1 second'
          FROM (VALUES ('connected', 'online', 'a:1@s.whatsapp.net', 'host', 60),
                       ('connected', 'online', 'b:1@s.whatsapp.net', 'host', -5),
                       ('disconnected', 'online', 'c:1@s.whatsapp.net', NULL, NULL),
                       ('logged_out', 'online', 'd:1@s.whatsapp.net', NULL, NULL),
                       ('closed', 'offline', 'e:1@s.whatsapp.net', NULL, NULL),
                       ('qr_pending', 'online', NULL, 'host', 60)) c(status, desired, device, host, lease)
        """,
        DEFAULT_TENANT,
    )

    await _invoke(sweep)

    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    [line] = [one for one in lines if one["msg"] == "sessions_counted"]
    assert (line["level"], line["wanted"], line["offline"]) == ("warning", 3, 2)
