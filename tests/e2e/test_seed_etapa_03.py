"""One test for each example of the seed document (Etapa 03), through `shared.queues` as its user would call it."""

import time
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest

from functions import message_receive
from functions.resources import open_resources
from shared.db import connections
from shared.db.pool import connect
from shared.domain.errors import Conflict, NotFound
from shared.domain.ids import DEFAULT_TENANT, ConnectionId
from shared.domain.jobs import JobState, QueueName
from shared.domain.message import MessageStatus
from shared.domain.writes import ErrorInfo, MoveMessage
from shared.queues import (
    clean_old_jobs,
    close_all_queues,
    enqueue_message_status,
    enqueue_receive_message,
    enqueue_send_message,
    enqueue_session_close,
    enqueue_session_init,
    enqueue_webhook_delivery,
    get_all_queue_metrics,
    get_failed_jobs,
    get_queue_metrics,
    has_pending_init_job,
    initialize_queues,
    ledger,
    pause_all_queues,
    resume_all_queues,
    retry_failed_message,
)
from shared.queues.drain import Drain
from shared.queues.runtime import Queues
from shared.settings import Settings

JID = "5511999998888@s.whatsapp.net"


@pytest.fixture
async def queues(database_url: str) -> AsyncIterator[Queues]:
    settings = Settings(database_url=database_url, transport="memory", secret_key="s" * 32)
    yield await initialize_queues(settings)
    await close_all_queues()


@pytest.fixture
async def session(database_url: str, queues: Queues) -> str:
    session = ConnectionId(uuid4())
    async with connect(database_url) as connection, connection.transaction():
        assert await connections.insert(
            connection, session, tenant_id=DEFAULT_TENANT, label="x", external_id=None, config={}, metadata={}
        )
    return str(session)


async def test_a_session_is_initialized_once_while_it_is_pending(queues: Queues, session: str) -> None:
    job = await enqueue_session_init(session, "My WhatsApp", {"retryLimit": 3})

    assert job is not None
    assert job.job_id == f"session-init-{session}"
    assert await has_pending_init_job(session)
    assert await enqueue_session_init(session, "My WhatsApp") is None


async def test_a_session_is_closed_with_a_job_of_its_own(queues: Queues, session: str) -> None:
    job = await enqueue_session_close(session)

    assert job.job_id.startswith(f"session-close-{session}-")


async def test_a_message_is_enqueued_with_its_row(queues: Queues, session: str) -> None:
    result = await enqueue_send_message(session, JID, "text", {"text": "Hello from ZapHub!"})

    assert result.message["status"] == "queued"
    assert result.job is not None
    assert result.job.job_id == f"msg-send-{result.message['id']}"


async def test_the_same_message_id_makes_one_message(queues: Queues, session: str) -> None:
    first = await enqueue_send_message(session, JID, "text", {"text": "Hi"}, "msg-123")
    second = await enqueue_send_message(session, JID, "text", {"text": "Hi"}, "msg-123")

    assert (first.message["id"], second.deduplicated) == (second.message["id"], True)
    assert await queues.pool.fetchval("SELECT count(*) FROM messages") == 1
    with pytest.raises(Conflict):
        await enqueue_send_message(session, JID, "text", {"text": "Other"}, "msg-123")


async def test_a_received_message_is_stored_once_as_delivered(queues: Queues, session: str) -> None:
    wire_id = "wamid.HBgNNTUxMTk5OTk5ODg4OBUCABIYIEZGRkZGRkZGRkZGRkZGRkZGRg=="
    for _ in range(2):
        job = await enqueue_receive_message(
            session, wire_id, "5511999997777@s.whatsapp.net", "text", {"text": "Hello back!"}, int(time.time() * 1000)
        )
        assert job.job_id == f"msg-recv-{session}-{wire_id}"
        await _drain(queues, QueueName.MESSAGE_RECEIVE)

    [row] = await queues.pool.fetch("SELECT direction, status, wa_message_id FROM messages")
    assert tuple(row) == ("inbound", "delivered", wire_id)


async def test_a_webhook_is_enqueued_with_neither_url_nor_secret_in_its_job(queues: Queues, session: str) -> None:
    job = await enqueue_webhook_delivery(
        session, "https://example.com/webhooks/whatsapp", "message.received", {"from": "someone", "text": "Hi!"}
    )

    data = await queues.pool.fetchval("SELECT data::text FROM jobs WHERE job_key = $1", job.job_id)
    assert "example.com" not in str(data)
    assert "whsec" not in str(data)


async def test_a_status_is_enqueued_once_a_wire_id_and_status(queues: Queues, session: str) -> None:
    job = await enqueue_message_status(session, "3EB0AA", "read", int(time.time() * 1000))

    assert job.job_id == f"msg-status-{session}-3EB0AA-read"


async def test_metrics_of_all_queues_have_the_seeds_fields(queues: Queues, session: str) -> None:
    await enqueue_send_message(session, JID, "text", {"text": "Hi"})

    metrics = {one["queueName"]: one for one in await get_all_queue_metrics()}
    assert set(metrics) == {queue.value for queue in QueueName}
    send = await get_queue_metrics("message:send")
    assert (send["waiting"], send["active"], send["delayed"], send["total"]) == (1, 0, 0, 1)


async def test_failed_jobs_are_listed_with_why(queues: Queues, session: str) -> None:
    await enqueue_receive_message(session, "bad", JID, "text", {"text": "x"}, "not a time")  # type: ignore[arg-type]  # wrong on purpose
    await _drain(queues, QueueName.MESSAGE_RECEIVE)

    [job] = await get_failed_jobs("message:receive", 5)
    assert job.state is JobState.FAILED
    assert job.error is not None
    assert job.error["code"] == "VALIDATION_ERROR"


async def test_old_jobs_are_cleaned_from_every_queue(queues: Queues, session: str) -> None:
    await enqueue_receive_message(session, "w1", JID, "text", {"text": "x"}, int(time.time() * 1000))
    await _drain(queues, QueueName.MESSAGE_RECEIVE)

    assert (await clean_old_jobs(24 * 60 * 60 * 1000))["message:receive"] == 0
    await queues.pool.execute("UPDATE jobs SET finished_at = finished_at - interval '25 h'")
    assert (await clean_old_jobs(24 * 60 * 60 * 1000))["message:receive"] == 1


async def test_a_pause_of_all_queues_keeps_work_and_a_resume_lets_it_go(queues: Queues, session: str) -> None:
    await pause_all_queues()
    await enqueue_receive_message(session, "w1", JID, "text", {"text": "x"}, int(time.time() * 1000))
    await _drain(queues, QueueName.MESSAGE_RECEIVE)
    assert await queues.pool.fetchval("SELECT count(*) FROM messages") == 0

    await resume_all_queues()
    await _drain(queues, QueueName.MESSAGE_RECEIVE)
    assert await queues.pool.fetchval("SELECT count(*) FROM messages") == 1


async def test_a_message_in_the_dead_letters_is_retried_before_new_ones(queues: Queues, session: str) -> None:
    result = await enqueue_send_message(session, JID, "text", {"text": "Fail"})
    message = UUID(result.message["id"])
    with pytest.raises(Conflict):
        await retry_failed_message(str(message))
    assert result.job is not None
    async with queues.transaction() as tx:
        await ledger.cancel(tx.connection, pks=[result.job.pk])
        failed = ErrorInfo(code="TEST", detail="failed on purpose", retryable=True)
        await tx.apply([MoveMessage(message_id=message, to=MessageStatus.DLQ, error=failed)])  # type: ignore[arg-type]  # a plain UUID

    retried = await retry_failed_message(str(message))

    assert retried.message["status"] == "queued"
    assert retried.job is not None
    assert retried.job.job_id == f"msg-retry-{message}-1"
    assert await queues.pool.fetchval("SELECT priority FROM jobs WHERE pk = $1", retried.job.pk) == 6


async def test_an_unknown_session_is_a_clear_error_and_no_job(queues: Queues) -> None:
    with pytest.raises(NotFound):
        await enqueue_send_message(str(uuid4()), JID, "text", {"text": "Hi"})

    assert await queues.pool.fetchval("SELECT count(*) FROM jobs") == 0


async def _drain(queues: Queues, queue: QueueName) -> None:
    work = message_receive.queue.work
    async with open_resources(queues) as use:
        await Drain(queues, {queue: work}, use, slots={queue: 5}, worker="test").until_idle()
