"""The seed's calls on the queues, in snake_case, with its arguments and defaults.

They work on the process's own `Queues`, which `initialize_queues` opens; before that each raises Misconfigured.
`sessionId` and the like keep the seed's spelling inside a job's data.
"""

from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

import structlog

from shared.db import connections, webhook_deliveries
from shared.db.pool import DatabaseError
from shared.domain.errors import InvalidInput, NotFound
from shared.domain.ids import ConnectionId
from shared.domain.jobs import Enqueued, JobState, NewJob, QueueName
from shared.queues import admin, metrics, new_jobs
from shared.queues.admin import JobView
from shared.queues.runtime import Queues, Transaction, current, has_current, set_current
from shared.sealing import Sealer
from shared.settings import Settings, load

_DAY_MS: Final = 24 * 60 * 60 * 1000
_NO_DATA_FOUND: Final = "P0002"
_PENDING: Final = frozenset({JobState.WAITING, JobState.ACTIVE, JobState.DELAYED})

log = structlog.get_logger(__name__)


async def initialize_queues(settings: Settings | None = None) -> Queues:
    """Open the process's Queues from the environment's settings, once; again returns the same."""
    if not has_current():
        set_current(await Queues.open(settings or load()))
        log.info("queues_initialized", count=len(QueueName))
    return current()


async def close_all_queues() -> None:
    """Close the process's Queues; again is nothing."""
    if has_current():
        queues = current()
        set_current(None)
        await queues.close()
        log.info("queues_closed")


# ---- sessions


async def enqueue_session_init(session_id: str, label: str, config: Mapping[str, Any] | None = None) -> Enqueued | None:
    """Enqueue the opening of a session, or return None while one is pending."""
    data = {"sessionId": str(session_id), "label": label, "config": dict(config or {})}
    async with current().transaction() as tx:
        [job] = await tx.enqueue([new_jobs.session_init(data)])
        if job.deduplicated:
            log.warning("session_init_already_pending", session_id=str(session_id), job_id=job.job_id)
            return None
        await _record(tx, session_id, "session.init_queued", {"jobId": job.job_id})
    log.info("session_init_enqueued", session_id=str(session_id), job_id=job.job_id)
    return job


async def has_pending_init_job(session_id: str) -> bool:
    """Whether an opening of this session waits, runs or is to be tried again."""
    async with current().pool.acquire() as connection:
        job = await admin.get_job(connection, f"session-init-{session_id}")
    return job is not None and job.state in _PENDING


async def enqueue_session_close(session_id: str, reason: str = "manual") -> Enqueued:
    """Enqueue the closing of a session; each call is a job of its own."""
    data = {"sessionId": str(session_id), "reason": reason}
    async with current().transaction() as tx:
        [job] = await tx.enqueue([new_jobs.session_close(data)])
        await _record(tx, session_id, "session.close_queued", {"jobId": job.job_id, "reason": reason})
    log.info("session_close_enqueued", session_id=str(session_id), job_id=job.job_id, reason=reason)
    return job


# ---- messages


async def enqueue_receive_message(
    session_id: str,
    wa_message_id: str,
    from_: str,
    type: str,  # noqa: A002 - the seed's argument
    content: Mapping[str, Any],
    timestamp: int,
) -> Enqueued:
    """Enqueue one received message; the same wire id of a session, while it waits or runs, is the same job.

    `from_` is the chat and the writer, `timestamp` is in milliseconds.
    """
    data = {
        "sessionId": str(session_id),
        "waMessageId": wa_message_id,
        "chat": from_,
        "chatAlias": None,
        "from": from_,
        "participant": None,
        "pushName": None,
        "fromMe": False,
        "type": type,
        "content": dict(content),
        "timestamp": timestamp,
        "backfilled": False,
    }
    return await _enqueue(new_jobs.message_receive(data))


async def enqueue_message_status(session_id: str, wa_message_id: str, status: str, timestamp: int) -> Enqueued:
    """Enqueue one receipt: `delivered`, `read` or `played`, at `timestamp` in milliseconds."""
    data = {
        "sessionId": str(session_id),
        "waMessageId": wa_message_id,
        "status": status,
        "timestamp": timestamp,
    }
    return await _enqueue(new_jobs.message_status(data))


# ---- webhooks


async def enqueue_webhook_delivery(
    session_id: str, webhook_url: str, event: str, payload: Mapping[str, Any], priority: int = 3
) -> Enqueued:
    """Enqueue one webhook to a URL, signed and numbered like every other; calling twice sends twice.

    Raises NotFound when there is no such session, and InvalidInput when a value cannot be sent.
    """
    queues = current()
    async with queues.transaction() as tx:
        made = await webhook_deliveries.send_to_url(
            tx.connection,
            connection_id=_session(session_id),
            url=webhook_url,
            event_type=event,
            payload=payload,
            sealer=Sealer(queues.settings.secret_key),
            priority=priority,
        )
        [job] = await tx.enqueue([made])
    log.info("webhook_enqueued", session_id=str(session_id), event_type=event, job_id=job.job_id)
    return job


async def enqueue_webhook_for_event(
    session_id: str, webhook_url: str, event_type: str, event_payload: Mapping[str, Any]
) -> Enqueued:
    """As `enqueue_webhook_delivery`, with the default priority."""
    return await enqueue_webhook_delivery(session_id, webhook_url, event_type, event_payload)


# ---- watching and tending


async def get_queue_metrics(queue_name: str) -> dict[str, Any]:
    """One queue's numbers: `queueName`, `waiting`, `active`, `completed`, `failed`, `delayed`, `total` and more."""
    async with current().pool.acquire() as connection:
        return _seed_metrics(await metrics.metrics_of(connection, _queue(queue_name)))


async def get_all_queue_metrics() -> list[dict[str, Any]]:
    """Every queue's numbers, the most urgent queue first."""
    async with current().pool.acquire() as connection:
        return [_seed_metrics(one) for one in await metrics.queue_metrics(connection)]


async def get_failed_jobs(queue_name: str, limit: int = 10) -> list[JobView]:
    """The newest dead letters of a queue."""
    async with current().pool.acquire() as connection:
        return await admin.list_jobs(connection, _queue(queue_name), JobState.FAILED, limit=limit)


async def clean_old_jobs(older_than_ms: int = _DAY_MS) -> dict[str, int]:
    """Delete completed jobs of that age and failed ones seven times as old, at most 100 of each; returns the former."""
    results = {}
    async with current().pool.acquire() as connection:
        for queue in QueueName:
            results[queue.value] = await admin.clean(
                connection, queue, JobState.COMPLETED, older_than_s=older_than_ms / 1000, batch=100
            )
            await admin.clean(connection, queue, JobState.FAILED, older_than_s=older_than_ms * 7 / 1000, batch=100)
    log.info("old_jobs_cleaned", results=results)
    return results


async def pause_all_queues() -> None:
    """The emergency stop: what runs ends, what waits stays, and new jobs are still taken."""
    async with current().transaction() as tx:
        await admin.pause_all(tx.connection)
    log.warning("all_queues_paused")


async def resume_all_queues() -> None:
    """Go on where `pause_all_queues` stopped."""
    async with current().transaction() as tx:
        await admin.resume_all(tx.connection)
        tx.ring(*QueueName)
    log.info("all_queues_resumed")


async def _enqueue(job: NewJob) -> Enqueued:
    made = await current().enqueue(job)
    log.info("job_enqueued", queue=job.queue.value, job_id=made.job_id, session_id=job.data["sessionId"])
    return made


async def _record(tx: Transaction, session_id: str, event: str, payload: Mapping[str, Any]) -> None:
    session = _session(session_id)
    try:
        is_wanted = await connections.record_event(tx.connection, session, event, payload)
    except DatabaseError as error:
        if error.sqlstate == _NO_DATA_FOUND:
            raise NotFound(f"there is no session {session_id}.") from None
        raise
    if is_wanted:
        tx.fan_out(session)


def _session(session_id: str) -> ConnectionId:
    try:
        return ConnectionId(UUID(str(session_id)))
    except ValueError:
        raise InvalidInput("a session id is a UUID.", pointer="/sessionId") from None


def _queue(queue_name: str) -> QueueName:
    try:
        return QueueName(queue_name)
    except ValueError:
        raise InvalidInput(f"there is no queue {queue_name!r}; the seven are {', '.join(QueueName)}.") from None


def _seed_metrics(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"queueName": row["name"], **row}
