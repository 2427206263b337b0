"""Store messages that came over the wire, each once, and tell whoever subscribed."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID, uuid4

from functions.resources import Resources
from functions.work import work
from shared.domain.errors import InvalidInput
from shared.domain.ids import ConnectionId, MessageId, WireId
from shared.domain.jid import parse_jid
from shared.domain.jobs import Job, QueueName
from shared.domain.outcome import Discard, Done, Failure, Outcome
from shared.domain.writes import StoreFromWire

_EVENTS: Final = {"edit": "message.edited", "revoke": "message.revoked", "reaction": "message.reaction"}
_FROM_ME: Final = "message.sent"


async def handle(jobs: Sequence[Job], _use: Resources) -> Sequence[Outcome]:
    """One row and one event a message; a message that is stored already changes nothing."""
    return [_store(job) for job in jobs]


def _store(job: Job) -> Outcome:
    try:
        write = _row(job.data)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        failure = Failure(
            code="VALIDATION_ERROR", detail=f"The job's data are wrong ({type(error).__name__}).", retryable=False
        )
        return Discard(reason=failure.detail, failure=failure)
    return Done(result={"success": True, "waMessageId": write.wire_id}, writes=(write,))


def _row(data: Any) -> StoreFromWire:  # noqa: ANN401 - a job's data, judged here
    from_me = bool(data.get("fromMe", False))
    chat = data.get("chat") or data["from"]
    return StoreFromWire(
        message_id=MessageId(uuid4()),
        connection_id=ConnectionId(UUID(data["sessionId"])),
        wire_id=WireId(data["waMessageId"]),
        jid=chat,
        phone=_phone(chat),
        alias_jid=data.get("chatAlias"),
        sender_jid=data["from"],
        participant=data.get("participant"),
        push_name=data.get("pushName"),
        from_me=from_me,
        type=data["type"],
        payload=dict(data["content"]),
        at=datetime.fromtimestamp(data["timestamp"] / 1000, UTC),
        backfilled=bool(data.get("backfilled", False)),
        event_type=_FROM_ME if from_me else _EVENTS.get(data["type"], "message.received"),
    )


def _phone(jid: str) -> str | None:
    try:
        return parse_jid(jid).phone
    except InvalidInput:
        # A newsletter, a broadcast list: a chat all the same, without a number.
        return None


queue = work(QueueName.MESSAGE_RECEIVE, handle, batch=True)
task, broker, handler = queue.task, queue.broker, queue.handler
