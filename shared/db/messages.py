"""The messages table: inserting, moving, reading. Functions take a connection; their callers own the transaction."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from shared.db import known_numbers
from shared.db.known_numbers import Alias
from shared.db.pool import Connection, JsonList, Record
from shared.db.sql import load
from shared.domain.ids import ConnectionId, MessageId, TenantId, WireId
from shared.domain.writes import MoveMessage, RecordReceipt, StoreFromWire

_SQL = load("messages")


async def bind_job(connection: Connection, message_id: MessageId, pk: int) -> None:
    await connection.execute(_SQL.bind_job, message_id, pk)


async def get_object(
    connection: Connection, message_id: UUID, *, tenant_id: TenantId, allowed: Sequence[ConnectionId] | None
) -> dict[str, Any] | None:
    """The message as the API shows it, or None when there is none for this caller."""
    row = await connection.fetchrow(_SQL.get_object, message_id, tenant_id, allowed)
    return row["object"] if row else None


async def objects(connection: Connection, ids: Sequence[MessageId]) -> dict[MessageId, dict[str, Any]]:
    return {row["id"]: row["object"] for row in await connection.fetch(_SQL.objects, list(ids))}


async def list_objects(
    connection: Connection,
    connection_id: ConnectionId,
    *,
    direction: str | None,
    status: str | None,
    jids: Sequence[str] | None,
    type_: str | None,
    after: tuple[datetime, UUID] | None,
    limit: int,
) -> list[Record]:
    """`id`, `created_at`, `object`, newest first; `after` is the last one seen, `jids` are the names of one chat."""
    created_at, last_id = after or (None, None)
    return await connection.fetch(
        _SQL.list_objects, connection_id, direction, status, jids, type_, created_at, last_id, limit
    )


async def timeline(connection: Connection, message_id: MessageId) -> list[dict[str, Any]]:
    """Every transition, attempt and webhook attempt, oldest first: `kind`, `at`, then what it was."""
    rows = await connection.fetch(_SQL.timeline, message_id)
    return [{"kind": row["kind"], "at": row["at"], **row["detail"]} for row in rows]


async def move(connection: Connection, writes: Sequence[MoveMessage]) -> set[ConnectionId]:
    """Move each message that may move; returns the connections of which webhooks are to be made."""
    rows = await connection.fetch(
        _SQL.move,
        [w.message_id for w in writes],
        [w.to.value for w in writes],
        [w.send_no for w in writes],
        [w.wire_id for w in writes],
        [w.wire_at for w in writes],
        [
            {"code": w.error.code, "detail": w.error.detail, "retryable": w.error.retryable} if w.error else None
            for w in writes
        ],
        [w.retry_in_s for w in writes],
    )
    return {row["connection_id"] for row in rows if row["wanted"]}


async def record_receipts(connection: Connection, writes: Sequence[RecordReceipt]) -> set[ConnectionId]:
    """Record each receipt, before or after its send was recorded; returns the connections to fan out."""
    rows = await connection.fetch(
        _SQL.record_receipts,
        [w.connection_id for w in writes],
        [w.wire_id for w in writes],
        [w.status.value for w in writes],
        [w.at for w in writes],
    )
    return {row["connection_id"] for row in rows if row["wanted"]}


async def held_jobs(connection: Connection, receipts: Sequence[tuple[ConnectionId, WireId]]) -> list[int]:
    """The jobs of messages in doubt that these receipts settle: they need not wait out their hold."""
    rows = await connection.fetch(_SQL.held_jobs, [c for c, _ in receipts], [w for _, w in receipts])
    return [row["job_pk"] for row in rows]


async def store_from_wire(connection: Connection, writes: Sequence[StoreFromWire]) -> set[ConnectionId]:
    """Store messages that did not come through the API, each once; returns the connections to fan out."""
    inserted = {
        row["id"]
        for row in await connection.fetch(
            _SQL.insert_from_wire,
            [w.message_id for w in writes],
            [w.connection_id for w in writes],
            [w.wire_id for w in writes],
            [w.jid for w in writes],
            [w.phone for w in writes],
            [w.sender_jid for w in writes],
            [w.participant for w in writes],
            [w.push_name for w in writes],
            [w.from_me for w in writes],
            [w.type for w in writes],
            [dict(w.payload) for w in writes],
            [w.at for w in writes],
            [w.backfilled for w in writes],
            [w.wire_sender for w in writes],
            [w.reply_to for w in writes],
            [JsonList(w.mentions) for w in writes],
            [w.alias_jid for w in writes],
            [w.sender_alias for w in writes],
        )
    }
    # Before the events: they show both names.
    await known_numbers.learn_seen(connection, [alias for w in writes for alias in _aliases(w)])
    fresh = [w for w in writes if w.message_id in inserted]
    rows = await connection.fetch(_SQL.record_received, [w.message_id for w in fresh], [w.event_type for w in fresh])
    return {row["connection_id"] for row in rows if row["wanted"]}


def _aliases(write: StoreFromWire) -> Iterator[Alias]:
    """Which names the message says are one person's: of its chat, and of who wrote it."""
    if write.alias_jid is not None:
        yield Alias(write.connection_id, write.alias_jid, write.jid)
    if write.sender_alias is not None and write.sender_jid not in (None, write.sender_alias, write.jid):
        assert write.sender_jid is not None
        group = None if write.participant is None else write.jid
        yield Alias(write.connection_id, write.sender_alias, write.sender_jid, group)


async def look_up(
    connection: Connection, message_id: UUID, *, tenant_id: TenantId, allowed: Sequence[ConnectionId] | None
) -> Record | None:
    """What a change of the message depends on: status, job, retries. Nothing is locked: the job comes first."""
    return await connection.fetchrow(_SQL.look_up, message_id, tenant_id, allowed)


async def begin_retry(connection: Connection, message_id: MessageId, *, expires_at: datetime | None) -> int | None:
    """Give the message a new budget of attempts; None when its status does not allow a retry."""
    number: int | None = await connection.fetchval(_SQL.begin_retry, message_id, expires_at)
    return number


async def waiting_of_connection(
    connection: Connection, connection_id: ConnectionId, *, limit: int
) -> list[tuple[MessageId, int | None]]:
    """At most `limit` messages that have not left, oldest first, with the pk of each one's job."""
    return [(r["id"], r["job_pk"]) for r in await connection.fetch(_SQL.waiting_of_connection, connection_id, limit)]


async def has_receipt(connection: Connection, connection_id: ConnectionId, wire_id: WireId) -> bool:
    """Whether WhatsApp said anything of this wire id: then it was sent, whatever else is known."""
    known: bool = await connection.fetchval(_SQL.has_receipt, connection_id, wire_id)
    return known
