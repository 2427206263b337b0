"""What may be done with a message that was accepted: cancel it, send it once more, settle it. See accepting.py."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from shared.db import message_bulk, messages, paces
from shared.db.pool import Record
from shared.db.sql import load
from shared.domain.errors import Conflict, NotFound
from shared.domain.ids import ConnectionId, MessageId, TenantId
from shared.domain.jobs import Enqueued, JobState, NewJob, QueueName
from shared.domain.message import CANCELABLE, RETRYABLE, MessageStatus
from shared.domain.session import REFUSES_SENDS, SessionStatus
from shared.domain.writes import ErrorInfo, MoveMessage
from shared.queues import ledger
from shared.queues.accepting import expiry
from shared.queues.policies import POLICIES
from shared.queues.runtime import Transaction

_drain: Final = load("drain")
_ledger: Final = load("ledger")

_PRIORITY: Final = POLICIES[QueueName.MESSAGE_SEND].priority
# Of a restricted chat one message is held, or each that is sent without an order.
_HELD_AT_MOST: Final = 5_000
# A person waits for a manual retry, so it goes before what is new (the seed's number).
_RETRY_PRIORITY: Final = _PRIORITY + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Retried:
    """A message that is sent once more, as the API shows it, and the new job."""

    message: dict[str, Any]
    job: Enqueued


async def cancel(
    tx: Transaction, message_id: UUID, *, tenant_id: TenantId, allowed: Sequence[ConnectionId] | None
) -> dict[str, Any]:
    """Take a message back that has not left, and return it; cancelled already, it is returned as it is.

    Raises NotFound, and Conflict when it is being sent or has ended.
    """
    row = await _found(tx, message_id, tenant_id=tenant_id, allowed=allowed)
    status = MessageStatus(row["status"])
    if status is not MessageStatus.CANCELED:
        ended = await ledger.cancel(tx.connection, pks=[row["job_pk"]] if row["job_pk"] is not None else [])
        if status not in CANCELABLE or (row["job_pk"] is not None and row["job_pk"] not in ended):
            raise Conflict(f"A message that is {status} cannot be cancelled; only what waits can.")
        await tx.apply([MoveMessage(message_id=row["id"], to=MessageStatus.CANCELED)])
        tx.ring(QueueName.MESSAGE_SEND)
    return await _shown(tx, row["id"])


async def retry(
    tx: Transaction,
    message_id: UUID,
    *,
    tenant_id: TenantId,
    allowed: Sequence[ConnectionId] | None,
    default_ttl_s: int,
) -> Retried:
    """Send a message that failed, is a dead letter or in doubt once more, with a new budget of attempts.

    Works after its job was cleaned up; a dead letter is forgotten, as the new job takes its place. One whose chat is
    restricted is tried at once by the job that it has, in its place. Raises NotFound, and Conflict from any other
    status.
    """
    row = await _found(tx, message_id, tenant_id=tenant_id, allowed=allowed)
    status = MessageStatus(row["status"])
    if status is MessageStatus.QUEUED and (job := await _lift(tx, row)) is not None:
        return Retried(message=await _shown(tx, row["id"]), job=job)
    if status not in RETRYABLE:
        raise Conflict(f"A message that is {status} cannot be retried; only failed, dlq and unknown ones can.")
    if SessionStatus(row["session_status"]) in REFUSES_SENDS:
        raise Conflict(f"The connection is {row['session_status']}; POST /connections/{{id}}/start opens it again.")
    # The job that would have tried again ends first, so that two never try the same message.
    if row["job_pk"] is not None:
        await ledger.cancel(tx.connection, pks=[row["job_pk"]], reason="retried")
        await message_bulk.forget_dead(tx.connection, [row["job_pk"]])
    number = row["retries"] + 1
    expires_at = expiry(datetime.now(UTC), default_ttl_s)
    [job] = await tx.enqueue(
        [retry_job(row["id"], row["connection_id"], number=number, order_key=row["order_key"], expires_at=expires_at)]
    )
    if await messages.begin_retry(tx.connection, row["id"], expires_at=expires_at) != number:
        raise Conflict("The message changed meanwhile; look at it and ask again.")
    await messages.bind_job(tx.connection, row["id"], job.pk)
    await tx.apply([MoveMessage(message_id=row["id"], to=MessageStatus.QUEUED)])
    tx.ring(QueueName.MESSAGE_SEND)
    return Retried(message=await _shown(tx, row["id"]), job=job)


async def _lift(tx: Transaction, row: Record) -> Enqueued | None:
    """Write to a message's restricted chat once more, now; its job, or None when the chat is not restricted."""
    if row["job_pk"] is None:
        return None
    # A job's group comes before what is kept of its chat.
    await tx.connection.execute(_ledger.lock_groups, [row["job_pk"]])
    job = await paces.waiting_job(tx.connection, row["job_pk"])
    if job is None:
        return None
    held = await paces.lift_chat(tx.connection, row["connection_id"], row["jid"], limit=_HELD_AT_MOST)
    if held is None:
        return None
    await ledger.make_due(tx.connection, held)
    tx.ring(QueueName.MESSAGE_SEND)
    return Enqueued(pk=row["job_pk"], job_id=job, state=JobState.WAITING, deduplicated=True)


def retry_job(
    message_id: MessageId,
    connection_id: ConnectionId,
    *,
    number: int,
    order_key: str | None,
    expires_at: datetime | None,
) -> NewJob:
    """The job of a message's retry by hand; `number` counts them from 1."""
    return NewJob(
        queue=QueueName.MESSAGE_SEND,
        job_id=f"msg-retry-{message_id}-{number}",
        name="send-message",
        data={"messageDbId": str(message_id), "sessionId": str(connection_id), "retry": number},
        priority=_RETRY_PRIORITY,
        group=str(connection_id),
        order_key=order_key,
        expires_at=expires_at,
    )


async def resolve(
    tx: Transaction,
    message_id: UUID,
    *,
    was_sent: bool,
    tenant_id: TenantId,
    allowed: Sequence[ConnectionId] | None,
) -> dict[str, Any]:
    """Settle a message in doubt by a person's word: sent, or not sent and then a dead letter that may be retried.

    Raises NotFound, and Conflict unless it is `unknown`.
    """
    row = await _found(tx, message_id, tenant_id=tenant_id, allowed=allowed)
    if row["status"] != MessageStatus.UNKNOWN:
        raise Conflict(f"A message that is {row['status']} is not in doubt.")
    if row["job_pk"] is not None:
        # Its job would hold the chat until the grace is over; nothing is in doubt any more.
        await ledger.cancel(tx.connection, pks=[row["job_pk"]], reason="resolved")
        tx.ring(QueueName.MESSAGE_SEND)
    refused = ErrorInfo(code="RESOLVED_NOT_SENT", detail="Resolved by hand: it was not sent.", retryable=True)
    move = (
        MoveMessage(message_id=row["id"], to=MessageStatus.SENT)
        if was_sent
        else MoveMessage(message_id=row["id"], to=MessageStatus.DLQ, error=refused)
    )
    await tx.apply([move])
    return await _shown(tx, row["id"])


async def _found(
    tx: Transaction, message_id: UUID, *, tenant_id: TenantId, allowed: Sequence[ConnectionId] | None
) -> Record:
    row = await messages.look_up(tx.connection, message_id, tenant_id=tenant_id, allowed=allowed)
    if row is None or row["source"] != "api":
        raise NotFound("There is no such message.")
    # The event's foreign key locks the connection; in the lock order that comes before its group.
    await tx.connection.execute(_drain.share_connections, [row["connection_id"]])
    return row


async def _shown(tx: Transaction, message_id: MessageId) -> dict[str, Any]:
    return (await messages.objects(tx.connection, [message_id]))[message_id]
