"""Leases on sessions: taking, renewing, giving back, and what happens to a session whose host went silent."""

from dataclasses import dataclass
from typing import Final

from shared.db import connections
from shared.db.pool import Connection, Pool
from shared.db.sql import load
from shared.domain.ids import ConnectionId, HostId
from shared.domain.session import WORKED_ON, SessionStatus

_SQL = load("leases")

# Why a session whose host went silent is `disconnected`.
HOST_LOST: Final = "host_lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A session as its host takes it. Every command and state of this tenure carries the epoch."""

    connection_id: ConnectionId
    epoch: int
    status: SessionStatus
    device_jid: str | None
    pairing_method: str
    pairing_phone: str | None
    phone: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewed:
    """`is_wanted` False: somebody asked for its end, and the close that does it may be on its way."""

    epoch: int
    is_wanted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What is left to close: `device_jid` None says that nothing is linked."""

    status: SessionStatus
    device_jid: str | None
    is_deleted: bool


async def standing(connection: Connection | Pool, connection_id: ConnectionId) -> Standing | None:
    """Where a connection stands, deleted or not; None when it never was."""
    row = await connection.fetchrow(_SQL.standing, connection_id)
    if row is None:
        return None
    return Standing(status=SessionStatus(row["status"]), device_jid=row["device_jid"], is_deleted=row["is_deleted"])


async def lock_number(connection: Connection, connection_id: ConnectionId, *, epoch: int) -> tuple[bool, str | None]:
    """Whether the lease is still this one, and the number that was linked last; the row stays locked."""
    row = await connection.fetchrow(_SQL.lock_number, connection_id, epoch)
    return (False, None) if row is None else (True, row["phone"])


async def claim(
    connection: Connection, connection_id: ConnectionId, host: HostId, *, ttl_s: float, to_unlink: bool = False
) -> Lease | None:
    """Take the session for this host, or None when it is gone, not wanted, or held by another.

    The lease lapses `ttl_s` after the last renewal; a lapsed holder's commands and states are refused by its epoch.
    `to_unlink` takes one that is deleted or shall be offline, for as long as unlinking takes.
    """
    row = await connection.fetchrow(_SQL.claim, connection_id, host, ttl_s, to_unlink)
    if row is None:
        return None
    return Lease(
        connection_id=ConnectionId(row["id"]),
        epoch=row["lease_epoch"],
        status=SessionStatus(row["status"]),
        device_jid=row["device_jid"],
        pairing_method=row["pairing_method"],
        pairing_phone=row["pairing_phone"],
        phone=row["phone"],
    )


async def adoptable(connection: Connection | Pool, *, limit: int) -> list[ConnectionId]:
    """Sessions that had a host, shall be online, and have none now: a dead host's, a pairing in progress too."""
    rows = await connection.fetch(_SQL.adoptable, [status.value for status in WORKED_ON], limit)
    return [ConnectionId(row["id"]) for row in rows]


async def renew(connection: Connection | Pool, host: HostId, *, ttl_s: float) -> dict[ConnectionId, Renewed]:
    """Renew all leases of the host; a session that is missing in the answer, or has another epoch, is lost."""
    rows = await connection.fetch(_SQL.renew, host, ttl_s)
    return {
        ConnectionId(row["id"]): Renewed(
            epoch=row["lease_epoch"], is_wanted=row["desired"] == "online" and not row["is_deleted"]
        )
        for row in rows
    }


async def release(connection: Connection | Pool, connection_id: ConnectionId, *, epoch: int) -> bool:
    """Give the lease back; False when another host has it already."""
    return await connection.fetchval(_SQL.release, connection_id, epoch) is not None


async def retry_after(connection: Connection, connection_id: ConnectionId, *, epoch: int, seconds: float) -> None:
    """Let a host open an ended session by itself in so many seconds; a start or a close before that is heeded first."""
    await connection.execute(_SQL.retry_after, connection_id, epoch, seconds)


async def end_of(connection: Connection | Pool, host: HostId) -> None:
    """Let the leases of a host lapse now: its process has ended, which the caller saw."""
    await connection.execute(_SQL.end_of, host)


async def offline(connection: Connection | Pool) -> tuple[int, int]:
    """How many linked sessions shall be online, and how many of them are not, or have lost their host."""
    row = await connection.fetchrow(_SQL.offline, [status.value for status in WORKED_ON])
    assert row is not None, "counts always have a row"
    return row["wanted"], row["offline"]


async def expire(connection: Connection, *, limit: int = 100) -> set[ConnectionId]:
    """Free leases that lapsed and set their sessions `disconnected`; returns those that are to be fanned out.

    Any number of hosts and sweepers may call it at once. Runs in the caller's transaction.
    """
    to_fan_out: set[ConnectionId] = set()
    for row in await connection.fetch(_SQL.lapsed, limit):
        connection_id = ConnectionId(row["id"])
        await connection.execute(_SQL.free, connection_id)
        if SessionStatus(row["status"]) in WORKED_ON:
            moved = await connections.move(
                connection, connection_id, SessionStatus.DISCONNECTED, reason=HOST_LOST, epoch=row["lease_epoch"]
            )
            if moved.fan_out:
                to_fan_out.add(connection_id)
    return to_fan_out
