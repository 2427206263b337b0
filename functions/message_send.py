"""Hand one message to the host that owns its session, never blindly twice (DESIGN D6)."""

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, assert_never
from uuid import UUID

from functions import references
from functions.outgoing_files import with_file
from functions.resources import Resources
from functions.send_endings import refused, sent
from functions.work import work
from shared.db import messages, tries
from shared.db.hosts import Owner
from shared.db.tries import Sendable, Start
from shared.domain.errors import HostUnreachable, Unavailable
from shared.domain.ids import HostId, MessageId, WireId
from shared.domain.jobs import Job, QueueName
from shared.domain.message import SETTLED, MessageStatus, ParkedReason
from shared.domain.outcome import Discard, Done, Failure, Outcome, Park, Snooze, Unknown
from shared.domain.session import SessionStatus
from shared.domain.writes import ErrorInfo, GiveBackTry, MoveMessage, Write
from shared.failpoints import reach
from shared.hosts import protocol
from shared.hosts.client import HostNotReached

# How soon to look again at what is about to change: a lease that lapses, a send that still runs.
_SOON_S: Final = 0.5
# A wait that is as good as over.
_LEAST_S: Final = 0.05
# The media store does not answer: the message keeps its place and its try.
_STORE_AWAY_S: Final = 5.0
_EXPIRED: Final = "EXPIRED"
_IN_DOUBT: Final = Failure(code="SEND_UNKNOWN", detail="Nobody can say whether this try reached WhatsApp.")


async def handle(job: Job, use: Resources) -> Outcome:
    """Send it when its session is online; a try that was begun and not recorded is looked up before another begins."""
    message_id = MessageId(UUID(job.data["messageDbId"]))
    reach("send_before_begin")
    message = await use.tries.call(Start(message_id=message_id, job_id=job.job_id))
    if message is None:
        return Discard(reason="The message is gone.")
    if message.is_begun:
        return await _try(job, message, use)
    if message.status in SETTLED:
        return _nothing_to_do(message)
    in_doubt = message.status in {MessageStatus.PROCESSING, MessageStatus.UNKNOWN}
    if in_doubt and (waits := _still_held(message, grace_s=use.settings.send_unknown_grace_s)):
        return waits
    if message.session_status != SessionStatus.CONNECTED:
        # The group's reasons say so too, or no longer: then the job is claimable again at once.
        return Park(reason=ParkedReason.CONNECTION_OFFLINE, writes=_doubt(message) if in_doubt else ())
    if message.wait_s is not None:
        # Its chat or its connection is held; it keeps its place.
        return Snooze(delay_s=max(message.wait_s, _LEAST_S))
    owner = _owner(message)
    if owner is None or not in_doubt:
        # Between two owners, or another job of this message was begun with a moment ago.
        return Snooze(delay_s=_SOON_S)
    if settled := await _settle(message, owner, use):
        return settled
    again = await use.tries.call(Start(message_id=message_id, job_id=job.job_id, over=message.send_no))
    if again is None or not again.is_begun:
        # Settled, or its session went away, while the host was asked.
        return Snooze(delay_s=0.0)
    return await _try(job, again, use)


def _nothing_to_do(message: Sendable) -> Outcome:
    if message.status is MessageStatus.CANCELED:
        # Taken back by the thousand, messages are cancelled a moment before their jobs.
        return Discard(reason="canceled")
    return Done(result={"success": True, "messageDbId": str(message.id), "status": message.status})


def _owner(message: Sendable) -> Owner | None:
    if message.host_id is None or message.address is None or message.device_jid is None:
        return None
    return Owner(
        host_id=HostId(message.host_id),
        address=message.address,
        epoch=message.lease_epoch,
        device_jid=message.device_jid,
        status=message.session_status,
    )


def _secret(message: Sendable, send_no: int, use: Resources) -> bytes:
    """32 bytes that the library stores with the wire id before the frame leaves: how a lost try is found again."""
    key = use.settings.secret_key.get_secret_value().encode()
    return hmac.new(key, f"send:{message.id}:{send_no}".encode(), hashlib.sha256).digest()


async def _try(job: Job, message: Sendable, use: Resources) -> Outcome:
    owner, send_no = _owner(message), message.send_no
    assert owner is not None, "a try that was begun has one"
    reach("send_after_begin")
    give_back = (GiveBackTry(message_id=message.id, send_no=send_no),)
    payload = await with_file(use, message)
    if isinstance(payload, Unavailable):
        return Snooze(delay_s=_STORE_AWAY_S, writes=give_back)
    if isinstance(payload, protocol.Refused):
        return refused(job, message, payload, send_no)
    resolved = await references.resolve(use.pool, replace(message, payload=dict(payload)))
    if isinstance(resolved, protocol.Refused):
        return refused(job, message, resolved, send_no)
    command = protocol.Send(
        connection_id=message.connection_id,
        message_id=message.id,
        send_no=send_no,
        secret=_secret(message, send_no, use),
        epoch=owner.epoch,
        to=message.jid,
        type=message.type,
        payload=resolved.payload,
        reply_to=resolved.reply_to,
        mentions=message.mentions,
    )
    if message.types:
        if (wait_s := use.typist.wait_s(message)) is not None:
            return Snooze(delay_s=wait_s, writes=give_back)
        await use.typist.type(owner, message)
    try:
        answer = await use.hosts.send(owner, command)
    except HostNotReached:
        return Snooze(delay_s=_SOON_S, writes=give_back)
    except HostUnreachable:
        # It may have left. The message stays `processing`, so the next look asks the host and the device store.
        return Snooze(delay_s=_SOON_S)
    return _answered(job, message, answer, give_back)


def _answered(job: Job, message: Sendable, answer: protocol.SendAnswer, give_back: tuple[Write, ...]) -> Outcome:
    match answer:
        case protocol.Sent():
            reach("send_before_record")
            return sent(message, answer, message.send_no)
        case protocol.Refused():
            return refused(job, message, answer, message.send_no)
        case protocol.Ambiguous():
            return Snooze(delay_s=0.0)
        case protocol.Busy() | protocol.NotOwner() | protocol.NotConnected():
            return Snooze(delay_s=_SOON_S, writes=give_back)
        case _:
            assert_never(answer)


async def _settle(message: Sendable, owner: Owner, use: Resources) -> Outcome | None:
    """What became of the newest try; None when it is proved that nothing left, or the user wants it sent again."""
    lookup = protocol.Lookup(
        connection_id=message.connection_id,
        message_id=message.id,
        send_no=message.send_no,
        secret=_secret(message, message.send_no, use),
        send_host=message.send_host or "",
        send_epoch=message.send_epoch or 0,
        send_device=message.send_device or "",
    )
    try:
        answer = await use.hosts.lookup(owner, lookup)
    except HostUnreachable:
        return Snooze(delay_s=_SOON_S)
    reach("send_after_lookup")
    match answer:
        case protocol.Running():
            return Snooze(delay_s=_SOON_S)
        case protocol.Sent():
            return sent(message, answer, message.send_no)
        case protocol.NeverLeft() if not await _is_untraced(message, use):
            return None
        case protocol.Left(wire_id=wire_id) if await _has_receipt(message, WireId(wire_id), use):
            return sent(message, protocol.Sent(wire_id=wire_id, at=use.now()), message.send_no)
        case protocol.NeverLeft() | protocol.Left() | protocol.CannotSay():
            return _hold(message, answer, grace_s=use.settings.send_unknown_grace_s)
        case _:
            assert_never(answer)


async def _has_receipt(message: Sendable, wire_id: WireId, use: Resources) -> bool:
    """A receipt that came before anybody knew the wire id settles the doubt: no need to hold the chat for another."""
    async with use.pool.acquire() as connection:
        return await messages.has_receipt(connection, message.connection_id, wire_id)


async def _is_untraced(message: Sendable, use: Resources) -> bool:
    """The store refused the trace of this try, so that its absence is no proof."""
    async with use.pool.acquire() as connection:
        return await tries.is_untraced(connection, message.id, message.send_no)


def _still_held(message: Sendable, *, grace_s: float) -> Outcome | None:
    """A message in doubt holds its chat for the grace; a wake-up before that (a resume) only looks at the clock."""
    if message.wa_message_id is None or message.unknown_for_s is None or message.unknown_for_s >= grace_s:
        return None
    return Snooze(delay_s=max(grace_s - message.unknown_for_s, _LEAST_S))


def _hold(message: Sendable, answer: protocol.LookupAnswer, *, grace_s: float) -> Outcome | None:
    writes = _doubt(message, wire_id=WireId(answer.wire_id) if isinstance(answer, protocol.Left) else None)
    held_for_s = message.unknown_for_s or 0.0
    if held_for_s < grace_s:
        return Unknown(failure=_IN_DOUBT, hold_s=grace_s - held_for_s, writes=writes)
    if message.on_unknown == "resend":
        return None
    # The chat goes on; a receipt, or a person, may still settle it.
    return Done(result={"success": False, "messageDbId": str(message.id), "status": "unknown"}, writes=writes)


def _doubt(message: Sendable, *, wire_id: WireId | None = None) -> tuple[Write, ...]:
    error = ErrorInfo(code=_IN_DOUBT.code, detail=_IN_DOUBT.detail, retryable=True)
    return (
        MoveMessage(
            message_id=message.id, to=MessageStatus.UNKNOWN, send_no=message.send_no, wire_id=wire_id, error=error
        ),
    )


def on_ended(data: Mapping[str, Any], failure: Failure) -> Sequence[Write]:
    """It expired, stalled or raised to the end. A try that was begun makes this `unknown` in the database."""
    return [
        MoveMessage(
            message_id=MessageId(UUID(data["messageDbId"])),
            to=MessageStatus.EXPIRED if failure.code == _EXPIRED else MessageStatus.DLQ,
            error=ErrorInfo(code=failure.code, detail=failure.detail, retryable=failure.retryable),
        )
    ]


def on_timeout(failure: Failure) -> Outcome:
    """It may have left, so it is neither failed nor tried again before its host and the device store were asked."""
    return Unknown(failure=failure, hold_s=_SOON_S)


queue = work(QueueName.MESSAGE_SEND, handle, on_ended=on_ended, on_timeout=on_timeout)
task, broker, handler = queue.task, queue.broker, queue.handler
