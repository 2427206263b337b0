"""What a connection's owner asks for: changed settings, a code for a phone, an end. Callers own the transaction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from shared.db.pool import Connection, Pool, Record
from shared.db.sql import load
from shared.domain.ids import ConnectionId, MessageId, TenantId
from shared.domain.message import MessageStatus
from shared.domain.session import SessionStatus

_SQL = load("lifecycle")


@dataclass(frozen=True, slots=True, kw_only=True)
class PairingView:
    """What there is to show to a phone. `qr_code` None: nothing that could still be scanned."""

    status: SessionStatus
    status_reason: str | None
    qr_code: str | None
    qr_attempt: int
    qr_expires_at: datetime | None


async def shown(connection: Connection, connection_id: ConnectionId) -> dict[str, Any]:
    """A connection that is there, deleted or not, as the API shows it."""
    found: dict[str, Any] = await connection.fetchval(_SQL.shown, connection_id)
    return found


async def release_external_id(connection: Connection, external_id: str, *, tenant_id: TenantId) -> None:
    """Let the external id of a deleted connection be used again."""
    await connection.execute(_SQL.release_external_id, tenant_id, external_id)


async def is_external_id_taken(
    connection: Connection, external_id: str, *, tenant_id: TenantId, besides: ConnectionId
) -> bool:
    """Whether another connection has it."""
    taken: bool = await connection.fetchval(_SQL.has_external_id, tenant_id, external_id, besides)
    return taken


async def update(
    connection: Connection,
    connection_id: ConnectionId,
    *,
    label: str,
    external_id: str | None,
    config: Mapping[str, Any],
    metadata: Mapping[str, Any],
) -> None:
    """Make a connection, locked by the caller, be like this."""
    await connection.execute(_SQL.update, connection_id, label, external_id, dict(config), dict(metadata))


async def delete(connection: Connection, connection_id: ConnectionId) -> None:
    """Hide a connection, locked by the caller, from now on, and want it offline; its history stays until retention."""
    await connection.execute(_SQL.delete, connection_id)


async def pairing(
    pool: Pool, connection_id: UUID, *, tenant_id: TenantId, allowed: Sequence[ConnectionId] | None
) -> PairingView | None:
    """What there is to show to a phone now, or None when there is no such connection for this caller."""
    row = await pool.fetchrow(_SQL.pairing, connection_id, tenant_id, allowed)
    if row is None:
        return None
    is_fresh = row["is_qr_fresh"] is True
    return PairingView(
        status=SessionStatus(row["status"]),
        status_reason=row["status_reason"],
        qr_code=row["qr_code"] if is_fresh else None,
        qr_attempt=row["qr_attempt"],
        qr_expires_at=row["qr_expires_at"],
    )


async def living_close_job(
    connection: Connection, connection_id: ConnectionId, *, queue_id: int, reason: str
) -> Record | None:
    """`pk`, `job_key`, `state` of the close that was asked for, for this reason, and has not ended."""
    return await connection.fetchrow(_SQL.living_close_job, queue_id, str(connection_id), reason)


async def message_status(pool: Pool, message_id: MessageId) -> MessageStatus | None:
    """Where a message is, for those who wait for it."""
    status = await pool.fetchval(_SQL.message_status, message_id)
    return None if status is None else MessageStatus(status)
