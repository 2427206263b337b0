"""What accepting sends asks of the database: locks, ids that are taken, and the rows of new messages; many at a time.

Functions take a connection; their callers own the transaction.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from shared.db.pool import Connection, JsonList, Record
from shared.db.sql import load
from shared.domain.ids import ConnectionId, MessageId

_SQL: Final = load("accepting")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewMessage:
    """An outbound message as it goes into its row; `send_at` in the future makes it `scheduled`."""

    id: MessageId
    connection_id: ConnectionId
    message_id: str
    jid: str
    phone: str | None
    type: str
    payload: dict[str, Any]
    body_hash: bytes
    reply_to: str | None
    mentions: list[str]
    metadata: dict[str, Any]
    order_key: str | None
    on_unknown: str
    send_at: datetime | None
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class Made:
    """A message that was inserted: its object as JSON, and whether webhooks are to be made of its event."""

    object: str
    fan_out: bool


async def lock(
    connection: Connection, connections: Collection[UUID], *, queue_id: int, waits: bool
) -> dict[UUID, Record]:
    """Lock these connections and the groups of their sends until the transaction ends.

    Each one's `tenant_id` (None: there is none), `status` and `deleted`. Without `waits`, one that `is_busy` is held by
    another transaction and was not locked. Asking twice in a transaction that waits may deadlock.
    """
    rows = await connection.fetch(_SQL.lock, queue_id, sorted(connections), waits)
    return {row["id"]: row for row in rows}


async def taken(connection: Connection, client_ids: Sequence[tuple[UUID, str]]) -> dict[tuple[UUID, str], Record]:
    """`id`, `body_hash`, `object` (JSON) of the messages that took these ids first, by connection and id.

    `job_pk`, `job_key` and `job_state` are of the newest job that sends the message; None once that was cleaned up.
    """
    rows = await connection.fetch(_SQL.taken, [one for one, _ in client_ids], [one for _, one in client_ids])
    return {(row["connection_id"], row["message_id"]): row for row in rows}


async def chats(connection: Connection, aliases: Sequence[tuple[UUID, str]]) -> dict[tuple[UUID, str], str]:
    """The phone-number chat of each alias that is known, by connection and alias."""
    rows = await connection.fetch(_SQL.chats, [one for one, _ in aliases], [alias for _, alias in aliases])
    return {(row["connection_id"], row["alias_jid"]): row["chat_jid"] for row in rows}


async def insert(
    connection: Connection, new: Sequence[NewMessage], jobs: Sequence[int], *, queue_id: int
) -> dict[MessageId, Made]:
    """Insert messages with their history and events, in order; `jobs` are the pks of theirs, in this queue.

    The connections are locked, and the client ids were seen to be free.
    """
    rows = await connection.fetch(
        _SQL.accept,
        queue_id,
        [n.id for n in new],
        [n.connection_id for n in new],
        [n.message_id for n in new],
        [n.jid for n in new],
        [n.phone for n in new],
        [n.type for n in new],
        [n.payload for n in new],
        [n.body_hash for n in new],
        [n.reply_to for n in new],
        [JsonList(n.mentions) for n in new],
        [n.metadata for n in new],
        [n.order_key for n in new],
        [n.on_unknown for n in new],
        [n.send_at for n in new],
        [n.expires_at for n in new],
        list(jobs),
    )
    return {row["id"]: Made(row["object"], row["wanted"]) for row in rows}
