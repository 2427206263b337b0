"""The seed's calls, against real queues."""

from collections.abc import AsyncIterator

import pytest

from shared import queues as seed
from shared.domain.errors import InvalidInput, Misconfigured, NotFound
from shared.domain.jobs import QueueName
from shared.queues.runtime import Queues
from shared.settings import Settings
from tests.integration.drain.conftest import enqueue, job_row, new_job


@pytest.fixture
async def opened(settings: Settings) -> AsyncIterator[Queues]:
    yield await seed.initialize_queues(settings)
    await seed.close_all_queues()


@pytest.fixture
async def session(opened: Queues) -> str:
    return str(
        await opened.pool.fetchval(
            "INSERT INTO connections (id, tenant_id, label) "
            "VALUES (gen_random_uuid(), '00000000-0000-0000-0000-000000000000', 'test') RETURNING id"
        )
    )


async def test_a_call_before_initialize_queues_says_what_to_do() -> None:
    with pytest.raises(Misconfigured, match="initialize_queues"):
        await seed.get_all_queue_metrics()


async def test_a_session_init_is_enqueued_once_while_it_is_pending(opened: Queues, session: str) -> None:
    first = await seed.enqueue_session_init(session, "Shop", {"retryLimit": 3})
    second = await seed.enqueue_session_init(session, "Shop")

    assert first is not None
    assert first.job_id == f"session-init-{session}"
    assert second is None
    assert await seed.has_pending_init_job(session)
    row = await job_row(opened, first.job_id)
    assert (row["name"], row["priority"]) == ("init-session", 10)
    assert row["data"] == {"sessionId": session, "label": "Shop", "config": {"retryLimit": 3}}
    events = await opened.pool.fetch("SELECT type, payload FROM events")
    assert [(e["type"], e["payload"]) for e in events] == [("session.init_queued", {"jobId": first.job_id})]


async def test_an_unknown_session_is_not_found_and_leaves_no_job(opened: Queues) -> None:
    with pytest.raises(NotFound):
        await seed.enqueue_session_init("11111111-1111-1111-1111-111111111111", "Nobody")

    assert await opened.pool.fetchval("SELECT count(*) FROM jobs") == 0


async def test_a_close_is_a_job_of_its_own_each_time(opened: Queues, session: str) -> None:
    job = await seed.enqueue_session_close(session)

    assert job.job_id.startswith(f"session-close-{session}-")
    assert (await job_row(opened, job.job_id))["data"] == {"sessionId": session, "reason": "manual"}
    assert not await seed.has_pending_init_job(session)


async def test_a_received_message_is_one_job_per_wire_id(opened: Queues, session: str) -> None:
    call = (session, "3EB0", "5511@s.whatsapp.net", "text", {"text": "hi"}, 1)

    first = await seed.enqueue_receive_message(*call)
    second = await seed.enqueue_receive_message(*call)

    assert first.job_id == f"msg-recv-{session}-3EB0"
    assert (second.pk, second.deduplicated) == (first.pk, True)


async def test_a_status_is_one_job_per_wire_id_and_status(opened: Queues, session: str) -> None:
    job = await seed.enqueue_message_status(session, "3EB0", "read", 1)

    assert job.job_id == f"msg-status-{session}-3EB0-read"


async def test_a_webhook_job_holds_neither_url_nor_secret(opened: Queues, session: str) -> None:
    job = await seed.enqueue_webhook_for_event(session, "https://example.com/in", "message.received", {"text": "hi"})

    row = await job_row(opened, job.job_id)
    assert (row["name"], row["priority"]) == ("deliver-webhook", 3)
    assert "example.com" not in str(row["data"])


async def test_metrics_have_the_seeds_keys(opened: Queues) -> None:
    await enqueue(opened, new_job(1), new_job(2))

    one = await seed.get_queue_metrics("message:status")
    every = await seed.get_all_queue_metrics()

    assert {"queueName": "message:status", "waiting": 2, "active": 0, "total": 2}.items() <= one.items()
    assert {row["queueName"] for row in every} == set(QueueName)


async def test_an_unknown_queue_is_refused(opened: Queues) -> None:
    with pytest.raises(InvalidInput, match="message:sendd"):
        await seed.get_queue_metrics("message:sendd")


async def test_pausing_all_stops_every_claim_until_resumed(opened: Queues) -> None:
    await seed.pause_all_queues()
    paused = [row["paused"] for row in await seed.get_all_queue_metrics()]
    await seed.resume_all_queues()
    resumed = [row["paused"] for row in await seed.get_all_queue_metrics()]

    assert paused == [True] * 7
    assert resumed == [False] * 7


async def test_old_jobs_are_cleaned_and_counted_per_queue(opened: Queues) -> None:
    await enqueue(opened, new_job(1), new_job(2))
    await opened.pool.execute(
        "UPDATE jobs SET state = 'completed', dedupe = NULL, finished_at = now() - interval '2 days' "
        "WHERE job_key = 'job-1'"
    )

    results = await seed.clean_old_jobs()

    assert results["message:status"] == 1
    assert sum(results.values()) == 1
