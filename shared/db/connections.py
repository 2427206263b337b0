"""The connections table: creating, moving, linking, reading; callers own the transaction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from shared.db.pool import Connection, Record
from shared.db.sql import load
from shared.domain.ids import ConnectionId, MessageId, TenantId
from shared.domain.session import SessionStatus

_SQL = load("connections")


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """`has_moved` is False when it may not go there, is there already, or the lease's epoch is another's by now.

    `fan_out`: webhooks are to be made. `resumes`: its sends may be claimable now, so ring `message:send` after commit.
    """

    has_moved: bool
    is_refused: bool
    fan_out: bool
    resumes: bool


async def insert(  # noqa: PLR0913 - a row has this many columns
    connection: Connection,
    connection_id: ConnectionId,
    *,
    tenant_id: TenantId,
    label: str,
    external_id: str | None,
    config: Mapping[str, Any],
    metadata: Mapping[str, Any],
    pairing_method: str = "qr",
    pairing_phone: str | None = None,
) -> bool:
    """Create it, waiting to be opened; False when the external id is taken."""
    created = await connection.fetchval(
        _SQL.insert,
        connection_id,
        tenant_id,
        label,
        external_id,
        dict(config),
        dict(metadata),
        pairing_method,
        pairing_phone,
    )
    if created:
        await connection.fetchval(_SQL.fit_group, connection_id)
    return created is not None


async def get_object(
    connection: Connection, connection_id: UUID, *, tenant_id: TenantId, allowed: Sequence[ConnectionId] | None
) -> dict[str, Any] | None:
    """The connection as the API shows it, or None when there is none for this caller or it was deleted."""
    row = await connection.fetchrow(_SQL.get_object, connection_id, tenant_id, allowed)
    return row["object"] if row and row["deleted_at"] is None else None


async def is_of_tenant(connection: Connection, connection_id: UUID, *, tenant_id: TenantId) -> bool:
    """Whether the tenant has, or had, this connection: a deleted one is still its own."""
    return bool(await connection.fetchval(_SQL.is_of_tenant, connection_id, tenant_id))


async def list_objects(
    connection: Connection,
    *,
    tenant_id: TenantId,
    allowed: Sequence[ConnectionId] | None,
    status: str | None,
    external_id: str | None,
    after: tuple[datetime, UUID] | None,
    limit: int,
) -> list[Record]:
    """`id`, `created_at`, `object`, newest first, without deleted ones; `after` is the last one already seen."""
    created_at, last_id = after or (None, None)
    return await connection.fetch(
        _SQL.list_objects, tenant_id, allowed, status, external_id, created_at, last_id, limit
    )


async def lock(
    connection: Connection, connection_id: UUID, *, tenant_id: TenantId, allowed: Sequence[ConnectionId] | None
) -> Record | None:
    """Lock the row for a change (first in the lock order); None when there is none for this caller."""
    return await connection.fetchrow(_SQL.lock, connection_id, tenant_id, allowed)


async def move(
    connection: Connection,
    connection_id: ConnectionId,
    to: SessionStatus,
    *,
    reason: str | None = None,
    epoch: int | None = None,
) -> Moved:
    """Move it when it may go there, with its event and the pause reason of its sends; running it again changes nothing.

    `epoch` is the lease's: a host that lost the lease changes nothing.
    """
    answer = await connection.fetchval(_SQL.move, connection_id, to.value, reason, epoch)
    has_moved = answer in {"moved", "moved_quietly"}
    return Moved(
        has_moved=has_moved,
        is_refused=answer == "refused",
        fan_out=answer == "moved",
        resumes=has_moved and to is SessionStatus.CONNECTED,
    )


async def set_desired(connection: Connection, connection_id: ConnectionId, *, online: bool) -> None:
    """What the user wants: hosts adopt connections that shall be online."""
    await connection.execute(_SQL.set_desired, connection_id, "online" if online else "offline")


async def set_paused(connection: Connection, connection_id: ConnectionId, *, paused: bool) -> None:
    """Pause or resume its sends; ring `message:send` after the commit of a resume."""
    await connection.execute(_SQL.set_paused, connection_id, paused)
    await connection.fetchval(_SQL.fit_group, connection_id)


async def set_qr(
    connection: Connection, connection_id: ConnectionId, *, epoch: int, code: str, attempt: int, lives_s: float
) -> bool | None:
    """Show a new QR code, with its event. None: another host has the lease. True: fan out."""
    shown = await connection.fetchval(_SQL.set_qr, connection_id, epoch, code, attempt, lives_s)
    return None if shown is None else await record_event(connection, connection_id, "session.qr", shown)


async def set_pair_code(
    connection: Connection, connection_id: ConnectionId, *, epoch: int, code: str, lives_s: float
) -> bool | None:
    """Show a new pairing code, with its event. None: another host has the lease. True: fan out."""
    shown = await connection.fetchval(_SQL.set_pair_code, connection_id, epoch, code, lives_s)
    return None if shown is None else await record_event(connection, connection_id, "session.pair_code", shown)


async def set_linked(
    connection: Connection,
    connection_id: ConnectionId,
    *,
    epoch: int,
    jid: str,
    device_jid: str,
    phone: str,
    lid: str | None,
    push_name: str | None,
) -> str | None:
    """Record the device that was linked; returns the phone linked before, to tell a new number from the same."""
    previous: str | None = await connection.fetchval(
        _SQL.set_linked, connection_id, epoch, jid, device_jid, phone, lid, push_name
    )
    return previous


async def clear_linked(connection: Connection, connection_id: ConnectionId, *, epoch: int | None) -> bool:
    """Forget the device (logged out, unlinked); the number stays known."""
    return await connection.fetchval(_SQL.clear_linked, connection_id, epoch) is not None


async def record_event(
    connection: Connection,
    connection_id: ConnectionId,
    type_: str,
    payload: Mapping[str, Any],
    *,
    severity: str = "info",
    message_id: MessageId | None = None,
) -> bool:
    """Append one event; True when webhooks are to be made of it."""
    wanted: bool = await connection.fetchval(
        _SQL.record_event, connection_id, message_id, type_, severity, dict(payload)
    )
    return wanted
