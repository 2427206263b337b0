"""What a host's answer to a try means for its job: the outcome, and the writes that go into the same commit."""

import hashlib
from typing import Final

from shared.db.tries import Sendable
from shared.domain.ids import MessageId, WireId
from shared.domain.jobs import Job, QueueName
from shared.domain.message import MessageStatus, ParkedReason
from shared.domain.outcome import Discard, Done, Failure, Outcome, Retry, Snooze
from shared.domain.pace_writes import ClearRefusals, HoldMessage, RestrictChat, RestSession, SlowSession
from shared.domain.pacing import restricted_for_s
from shared.domain.writes import ErrorInfo, MoveMessage, Write
from shared.hosts import protocol
from shared.queues.policies import POLICIES

_POLICY: Final = POLICIES[QueueName.MESSAGE_SEND]
_CHANCES: Final = 2**64


def sent(message: Sendable, answer: protocol.Sent, send_no: int) -> Outcome:
    """WhatsApp has it. A paced connection rests a little longer than its rate asks for."""
    writes: list[Write] = [
        MoveMessage(
            message_id=message.id,
            to=MessageStatus.SENT,
            send_no=send_no,
            wire_id=WireId(answer.wire_id),
            wire_at=answer.at,
        )
    ]
    if message.jitter_s:
        for_s = message.jitter_s * _chance(message.id, send_no)
        writes.append(RestSession(connection_id=message.connection_id, for_s=for_s))
    if message.refusals:
        writes.append(ClearRefusals(connection_id=message.connection_id, jid=message.jid))
    return Done(
        result={"success": True, "messageDbId": str(message.id), "waMessageId": answer.wire_id}, writes=tuple(writes)
    )


def refused(job: Job, message: Sendable, answer: protocol.Refused, send_no: int) -> Outcome:
    """It did not leave: its chat or its connection waits, it is tried again by the schedule, or that was its end."""
    if answer.code == protocol.CHAT_RESTRICTED:
        return _restricted(message, answer, send_no)
    if answer.code == protocol.RATE_OVERLIMIT:
        return _limited(message, answer, send_no)
    is_last = answer.permanent or (answer.max_tries is not None and job.attempt >= answer.max_tries)
    failure = Failure(code=answer.code, detail=answer.detail, retryable=not is_last)
    ended = _ended(message, failure, send_no=send_no)
    if is_last:
        return Discard(reason=answer.detail, failure=failure, writes=(ended,))
    delay_s = max(_POLICY.delay_s(job.attempt), answer.retry_after_s or 0.0)
    failed = MoveMessage(
        message_id=message.id, to=MessageStatus.FAILED, send_no=send_no, error=_error(failure), retry_in_s=delay_s
    )
    return Retry(failure=failure, delay_s=delay_s, writes=(failed,), last_writes=(ended,))


def _restricted(message: Sendable, answer: protocol.Refused, send_no: int) -> Outcome:
    """Only this chat waits: the message keeps its place in it, and the others of the connection go on."""
    for_s = restricted_for_s(message.refusals)
    restrict = RestrictChat(message_id=message.id, for_s=for_s)
    held = _held(message, answer, send_no, reason=ParkedReason.CHAT_RESTRICTED, for_s=for_s)
    return Snooze(delay_s=for_s, writes=(held, restrict))


def _limited(message: Sendable, answer: protocol.Refused, send_no: int) -> Outcome:
    """The whole connection waits: its group is paused in the same commit, so the job is claimable only afterwards."""
    held = _held(message, answer, send_no, reason=ParkedReason.RATE_LIMITED, for_s=None)
    return Snooze(delay_s=0.0, writes=(held, SlowSession(connection_id=message.connection_id)))


def _held(
    message: Sendable, answer: protocol.Refused, send_no: int, *, reason: ParkedReason, for_s: float | None
) -> HoldMessage:
    error = ErrorInfo(code=answer.code, detail=answer.detail, retryable=True)
    return HoldMessage(message_id=message.id, send_no=send_no, reason=reason, error=error, retry_in_s=for_s)


def _ended(message: Sendable, failure: Failure, *, send_no: int) -> MoveMessage:
    return MoveMessage(message_id=message.id, to=MessageStatus.DLQ, send_no=send_no, error=_error(failure))


def _error(failure: Failure) -> ErrorInfo:
    return ErrorInfo(code=failure.code, detail=failure.detail, retryable=failure.retryable)


def _chance(message_id: MessageId, send_no: int) -> float:
    """From 0 to 1, evenly spread over messages and the same for one try: a finish that is repeated rests as long."""
    digest = hashlib.sha256(f"jitter:{message_id}:{send_no}".encode()).digest()
    return int.from_bytes(digest[:8]) / _CHANCES
