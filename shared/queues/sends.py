"""Sends: message, event and job in one transaction, each client id once; then cancel, retry and settle them."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4

from shared.db import message_bulk, messages
from shared.db.messages import NewMessage
from shared.db.pool import Record
from shared.db.sql import load
from shared.domain.errors import Conflict, NotFound
from shared.domain.ids import ConnectionId, MessageId, TenantId
from shared.domain.jid import Jid, Server, parse_jid
from shared.domain.jobs import Enqueued, JobState, NewJob, QueueName
from shared.domain.message import CANCELABLE, RETRYABLE, MessageStatus, MessageType
from shared.domain.session import REFUSES_SENDS, SessionStatus
from shared.domain.writes import ErrorInfo, MoveMessage
from shared.queues import ledger
from shared.queues.policies import POLICIES
from shared.queues.runtime import Transaction

_drain: Final = load("drain")

_PRIORITY: Final = POLICIES[QueueName.MESSAGE_SEND].priority
# A person waits for a manual retry, so it goes before what is new (the seed's number).
_RETRY_PRIORITY: Final = _PRIORITY + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SendRequest:
    """What a client asked for. `message_id` None: one is made. `ttl_seconds` None: the setting's, 0: never expires.

    `to` is a phone number with country code or a JID. `priority` 0 to 9 orders chats of one connection, greater first;
    `keeps_order` False leaves the chat's order.
    """

    to: str
    type: MessageType
    payload: Mapping[str, Any]
    message_id: str | None = None
    priority: int = 0
    send_at: datetime | None = None
    ttl_seconds: int | None = None
    keeps_order: bool = True
    reply_to: str | None = None
    mentions: tuple[str, ...] = ()
    on_unknown: str = "hold"
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def body_hash(self) -> bytes:
        """Tells a repeat from another message under the same id."""
        said = [
            self.to,
            self.type,
            dict(self.payload),
            self.priority,
            self.send_at.isoformat() if self.send_at else None,
            self.ttl_seconds,
            self.keeps_order,
            self.reply_to,
            list(self.mentions),
            self.on_unknown,
            dict(self.metadata),
        ]
        return hashlib.sha256(json.dumps(said, sort_keys=True, separators=(",", ":")).encode()).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class SendResult:
    """`message` as the API shows it, and its job (None once that was cleaned up).

    `deduplicated`: its id was used before, with the same body; `is_conflict`: with another one, and nothing was made.
    """

    message: dict[str, Any]
    job: Enqueued | None
    deduplicated: bool = False
    is_conflict: bool = False


async def enqueue_sends(
    tx: Transaction,
    connection_id: ConnectionId,
    requests: Sequence[SendRequest],
    *,
    default_ttl_s: int,
    now: datetime | None = None,
) -> list[SendResult]:
    """Accept the messages in the caller's transaction, in order; a client id that was used already gives its first.

    `default_ttl_s` 0: never expires. The connection's state is the caller's to judge.
    """
    now = now or datetime.now(UTC)
    chats = await _chats(tx, connection_id, requests)
    wanted = [
        _new_message(connection_id, request, chat, default_ttl_s=default_ttl_s, now=now)
        for request, chat in zip(requests, chats, strict=True)
    ]
    # The same client id twice in one batch is a repeat too: the first one counts.
    first = {new.message_id: new for new in reversed(wanted)}
    fresh = [new for new in wanted if first[new.message_id] is new]
    inserted = await messages.insert_outbound(tx.connection, connection_id, fresh)
    made = [(new, request) for new, request in zip(wanted, requests, strict=True) if new.id in inserted]
    jobs = await tx.enqueue([_job(connection_id, new, request) for new, request in made])
    pairs = [(new.id, job.pk) for (new, _), job in zip(made, jobs, strict=True)]
    objects, fan_out = await messages.bind_jobs(tx.connection, pairs)
    if fan_out:
        tx.fan_out(connection_id)
    results = {
        new.id: SendResult(message=shown, job=job) for (new, _), job, shown in zip(made, jobs, objects, strict=True)
    }
    repeats = [new.message_id for new in wanted if new.id not in inserted]
    before = {row["message_id"]: row for row in await messages.by_client_ids(tx.connection, connection_id, repeats)}
    return [results.get(new.id) or _repeat(new, before[new.message_id]) for new in wanted]


def _repeat(new: NewMessage, row: Record) -> SendResult:
    job = None
    if row["job_pk"] is not None:
        job = Enqueued(pk=row["job_pk"], job_id=f"msg-send-{row['id']}", state=JobState.WAITING, deduplicated=True)
    is_same = row["body_hash"] == new.body_hash
    return SendResult(message=row["object"], job=job, deduplicated=is_same, is_conflict=not is_same)


async def _chats(tx: Transaction, connection_id: ConnectionId, requests: Sequence[SendRequest]) -> list[Jid]:
    """Each recipient in the spelling that orders its chat: an alias that is known becomes its phone number."""
    chats = [parse_jid(request.to) for request in requests]
    aliases = sorted({str(chat) for chat in chats if chat.server is Server.ALIAS})
    known = await messages.chats_of_aliases(tx.connection, connection_id, aliases) if aliases else {}
    return [parse_jid(known.get(str(chat), str(chat))) for chat in chats]


def _new_message(
    connection_id: ConnectionId, request: SendRequest, chat: Jid, *, default_ttl_s: int, now: datetime
) -> NewMessage:
    message_id = MessageId(uuid4())
    starts_at = max(now, request.send_at) if request.send_at else now
    return NewMessage(
        id=message_id,
        message_id=request.message_id or str(message_id),
        jid=str(chat),
        phone=chat.phone,
        type=request.type.value,
        payload=dict(request.payload),
        body_hash=request.body_hash,
        reply_to=request.reply_to,
        mentions=list(request.mentions),
        metadata=dict(request.metadata),
        order_key=f"{connection_id}:{chat.chat_key}" if request.keeps_order else None,
        on_unknown=request.on_unknown,
        send_at=request.send_at,
        expires_at=expiry(starts_at, default_ttl_s if request.ttl_seconds is None else request.ttl_seconds),
    )


def expiry(starts_at: datetime, ttl_s: int) -> datetime | None:
    """When a message that may go from `starts_at` on is too old to be sent; `ttl_s` 0: never."""
    return starts_at + timedelta(seconds=ttl_s) if ttl_s else None


def _job(connection_id: ConnectionId, new: NewMessage, request: SendRequest) -> NewJob:
    return NewJob(
        queue=QueueName.MESSAGE_SEND,
        job_id=f"msg-send-{new.id}",
        name="send-message",
        data={"messageDbId": str(new.id), "sessionId": str(connection_id), "messageId": new.message_id},
        priority=_PRIORITY,
        urgency=request.priority,
        group=str(connection_id),
        order_key=new.order_key,
        run_at=request.send_at,
        expires_at=new.expires_at,
    )


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
) -> SendResult:
    """Send a message that failed, is a dead letter or in doubt once more, with a new budget of attempts.

    Works after its job was cleaned up; a dead letter is forgotten, as the new job takes its place. Raises NotFound, and
    Conflict from any other status.
    """
    row = await _found(tx, message_id, tenant_id=tenant_id, allowed=allowed)
    status = MessageStatus(row["status"])
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
    return SendResult(message=await _shown(tx, row["id"]), job=job)


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
