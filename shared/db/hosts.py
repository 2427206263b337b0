"""The hosts table: which session host processes live, where they listen, and who holds a session."""

from collections.abc import Sequence
from dataclasses import dataclass

from shared.db.pool import Connection, Pool, Record
from shared.db.sql import load
from shared.domain.ids import ConnectionId, HostId

_SQL = load("hosts")

# A host says every second that it lives; one that said nothing for this long is not asked to take a session.
FRESH_S = 5.0
# A row of a host that is long gone serves nobody.
FORGET_S = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveHost:
    """A host. `sessions` counts what it holds."""

    id: HostId
    address: str
    capacity: int
    sessions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Who holds a session now, and in which epoch."""

    host_id: HostId
    address: str
    epoch: int
    device_jid: str | None
    status: str


async def register(connection: Connection | Pool, host: HostId, *, address: str, capacity: int) -> None:
    """Say where the host listens; again, after an outage, is harmless."""
    await connection.execute(_SQL.register, host, address, capacity)


async def see(connection: Connection | Pool, host: HostId) -> None:
    """The host lives."""
    await connection.execute(_SQL.see, host)


async def stop(connection: Connection | Pool, host: HostId) -> None:
    """The host says goodbye; its leases are given back separately."""
    await connection.execute(_SQL.stop, host)


async def live(connection: Connection | Pool, *, fresh_s: float = FRESH_S) -> list[LiveHost]:
    """Hosts with room for a session, the least loaded first."""
    return _hosts(await connection.fetch(_SQL.live, fresh_s))


async def loads(connection: Connection | Pool, *, fresh_s: float = FRESH_S) -> list[LiveHost]:
    """Every host that lives, full ones too, in no order."""
    return _hosts(await connection.fetch(_SQL.loads, fresh_s))


def _hosts(rows: Sequence[Record]) -> list[LiveHost]:
    return [
        LiveHost(id=HostId(row["id"]), address=row["address"], capacity=row["capacity"], sessions=row["sessions"])
        for row in rows
    ]


async def owner(connection: Connection | Pool, connection_id: ConnectionId) -> Owner | None:
    """Who holds the session, or None while its lease is free or lapsed."""
    row = await connection.fetchrow(_SQL.owner, connection_id)
    if row is None:
        return None
    return Owner(
        host_id=HostId(row["host_id"]),
        address=row["address"],
        epoch=row["lease_epoch"],
        device_jid=row["device_jid"],
        status=row["status"],
    )


async def forget(connection: Connection | Pool) -> None:
    """Delete rows of hosts that were not seen for a day, a batch of them."""
    await connection.execute(_SQL.forget, FORGET_S)
