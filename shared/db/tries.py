"""A message's tries: each is begun in the database before its host is asked, and recorded with the host's answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from shared.db.pool import Connection, Pool
from shared.db.sql import load
from shared.domain.ids import ConnectionId, MessageId, WireId
from shared.domain.message import MessageStatus
from shared.domain.writes import GiveBackTry, MoveMessage

_SQL = load("tries")


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """A try that a job wants to begin. `over`: the number of an earlier one in doubt, which it may follow."""

    message_id: MessageId
    job_id: str
    over: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sendable:
    """A message, and the session that would send it, at one moment.

    `is_begun`: the try `send_no` is committed, with the host, epoch and device that are named here as the session's.
    Otherwise nothing was changed, and `send_no`, `send_host`, `send_epoch` and `send_device` are its last try's.
    `wait_s`, and `wait_reason`: it may not begin yet, as its chat or its connection is held for so long.
    `types` and `jitter_s` are its connection's pacing; `refusals`: how often its chat was restricted in a row.
    `host_id` and `address` are None while nobody holds the session.
    """

    id: MessageId
    is_begun: bool
    connection_id: ConnectionId
    status: MessageStatus
    jid: str
    type: str
    payload: dict[str, Any]
    on_unknown: str
    unknown_for_s: float | None
    wa_message_id: WireId | None
    reply_to: str | None
    mentions: list[str]
    send_no: int
    send_epoch: int | None
    send_host: str | None
    send_device: str | None
    session_status: str
    device_jid: str | None
    lease_epoch: int
    host_id: str | None
    address: str | None
    wait_s: float | None = None
    wait_reason: str | None = None
    types: bool = False
    jitter_s: float = 0.0
    refusals: int = 0


async def begin(connection: Connection, starts: Sequence[Start]) -> list[Sendable | None]:
    """Begin the tries of messages that may be sent now, and say what there is to know of each, in the same order.

    None: the message is gone. One statement; it must have committed before a host is asked. When nobody knows whether
    it has, the message is in doubt, and asking its host settles that.
    """
    rows = await connection.fetch(
        _SQL.begin,
        [start.message_id for start in starts],
        [start.job_id for start in starts],
        [start.over for start in starts],
    )
    # Of two jobs of one message at most one begins; the other is told that it did not.
    found: dict[MessageId, list[Sendable]] = {}
    for row in rows:
        found.setdefault(row["id"], []).append(_sendable(row))
    return [of_message.pop(0) if (of_message := found.get(start.message_id)) else None for start in starts]


async def give_back(connection: Connection, writes: Sequence[GiveBackTry]) -> None:
    """Take tries back that the hosts declined although the messages are fine. Twice is once."""
    await connection.fetch(_SQL.give_back, [w.message_id for w in writes], [w.send_no for w in writes])


async def mark_untraced(pool: Pool, tries: Sequence[tuple[UUID, int]]) -> None:
    """Say of these tries, by message and send number, that no trace in the device store does not prove anything."""
    await pool.execute(_SQL.mark_untraced, [message for message, _ in tries], [send_no for _, send_no in tries])


async def is_untraced(connection: Connection, message_id: MessageId, send_no: int) -> bool:
    """Whether the try may have left although the device store has no trace of it."""
    return bool(await connection.fetchval(_SQL.is_untraced, message_id, send_no))


def is_answer(write: MoveMessage) -> bool:
    """Whether the write is what a host answers to a try that went well: then `record_sent` takes it."""
    return write.to is MessageStatus.SENT and write.send_no is not None and write.wire_id is not None


async def record_sent(connection: Connection, writes: Sequence[MoveMessage]) -> set[ConnectionId]:
    """As `messages.move`, for answers to tries of different messages, in fewer statements."""
    rows = await connection.fetch(
        _SQL.record_sent,
        [w.message_id for w in writes],
        [w.send_no for w in writes],
        [w.wire_id for w in writes],
        [w.wire_at for w in writes],
    )
    return {row["connection_id"] for row in rows if row["wanted"]}


def _sendable(row: Any) -> Sendable:  # noqa: ANN401 - a record
    fields = dict(row)
    fields["is_begun"] = fields.pop("begun")
    fields["status"] = MessageStatus(fields["status"])
    return Sendable(**fields)
