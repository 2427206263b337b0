"""What happens to a message that came in because its connection's `config` says so: dropped, or marked as read."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, Final, assert_never
from uuid import NAMESPACE_URL, UUID, uuid5

from functions.resources import Resources
from shared.db import connection_configs, hosts
from shared.domain.connection_config import ChatKind, ConnectionConfig
from shared.domain.errors import HostUnreachable
from shared.domain.ids import ConnectionId
from shared.domain.jobs import Job, NewJob, QueueName
from shared.domain.outcome import Discard, Done, Failure, Outcome, Retry, Snooze
from shared.domain.session import SessionStatus
from shared.domain.writes import CountIgnored, EnqueueJob, StoreFromWire, Write
from shared.hosts import protocol

MARK_READ: Final = "mark-read"
_RECEIVED: Final = "message.received"
_PUBLIC: Final = ("@broadcast", "@newsletter")
# Behind every message that came in.
_PRIORITY: Final = 1
_RETRY_DELAYS_S: Final = (2.0, 10.0, 60.0)
_TIMEOUT_S: Final = 30.0
# A contact to whom the message counts as unread for a day knows that nobody was there.
_GIVE_UP_S: Final = 86_400.0

Configs = Mapping[ConnectionId, ConnectionConfig]


async def configs_of(jobs: Iterable[Job], use: Resources) -> Configs:
    """The configs of the connections that these jobs belong to, as they are now."""
    sessions: set[UUID] = set()
    for job in jobs:
        with suppress(KeyError, TypeError, ValueError, AttributeError):
            sessions.add(UUID(job.data["sessionId"]))
    found = await connection_configs.read(use.pool, sessions) if sessions else {}
    return {one: stored.config for one, stored in found.items()}


def ignored(data: Any, configs: Configs) -> ChatKind | None:  # noqa: ANN401 - a job's data, judged by the caller
    """As what this message is dropped; None: it is not. The journal has it, and WhatsApp its acknowledgement."""
    config = configs.get(ConnectionId(UUID(data["sessionId"])))
    return None if config is None else config.ignores(data.get("chat") or data["from"])


def dropped(kind: ChatKind) -> Outcome:
    """Counted, and nothing else."""
    return Done(result={"success": True, "ignored": kind.value}, writes=(CountIgnored(kind=kind.value),))


def to_mark(write: StoreFromWire, configs: Configs) -> tuple[Write, ...]:
    """What has a message that is being stored marked as read; nothing unless the config asks for it."""
    config = configs.get(write.connection_id)
    if config is None or not config.read_messages or write.backfilled or write.event_type != _RECEIVED:
        return ()
    if write.jid.endswith(_PUBLIC):
        # It would show a contact that somebody looked at what they posted for everybody.
        return ()
    key = f"zaphub:read:{write.connection_id}:{write.jid}:{write.sender_jid}:{write.wire_id}"
    session = str(write.connection_id)
    is_group = write.participant is not None
    job = NewJob(
        queue=QueueName.MESSAGE_RECEIVE,
        job_id=f"read-{uuid5(NAMESPACE_URL, key)}",
        name=MARK_READ,
        data={
            "sessionId": session,
            "chat": write.jid,
            "sender": (write.sender_jid or write.jid) if is_group else write.jid,
            "waMessageId": write.wire_id,
        },
        priority=_PRIORITY,
        # In a group of their own, so that the session's messages do not wait for them.
        group=f"read:{session}",
        max_attempts=len(_RETRY_DELAYS_S) + 1,
        timeout_s=_TIMEOUT_S,
    )
    return (EnqueueJob(job=job),)


async def mark_read(job: Job, use: Resources) -> Outcome:
    """Let the writer of one stored message see that it was read, once the session is online, for up to a day."""
    session = ConnectionId(UUID(job.data["sessionId"]))
    config = (await configs_of([job], use)).get(session)
    if config is None or not config.read_messages:
        return Discard(reason="The connection does not mark messages as read any more.")
    owner = await hosts.owner(use.pool, session)
    if owner is None or owner.status != SessionStatus.CONNECTED:
        return _later(job, use)
    meant = protocol.ReadFrom(chat=job.data["chat"], sender=job.data["sender"], wire_ids=[job.data["waMessageId"]])
    try:
        answer = await use.hosts.read(owner, protocol.Read(connection_id=session, epoch=owner.epoch, messages=[meant]))
    except HostUnreachable as error:
        return _again(job, error.public_code, error.detail)
    match answer:
        case protocol.Shown():
            return Done(result={"success": True})
        case protocol.Refused():
            return _again(job, answer.code, answer.detail)
        case protocol.NotOwner() | protocol.NotConnected():
            return _later(job, use)
        case _:
            assert_never(answer)


def _later(job: Job, use: Resources) -> Outcome:
    """The session is offline: look again after half of the time that it waits already, 2 s to 5 minutes."""
    waited_s = (use.now() - job.created_at).total_seconds()
    if waited_s > _GIVE_UP_S:
        return Discard(reason="The connection was offline for a day.")
    return Snooze(delay_s=min(max(waited_s / 2, 2.0), 300.0))


def _again(job: Job, code: str, detail: str) -> Outcome:
    delay_s = _RETRY_DELAYS_S[min(job.attempt, len(_RETRY_DELAYS_S)) - 1]
    return Retry(failure=Failure(code=code, detail=detail), delay_s=delay_s)
