"""The events table as a log: reading it in the order of its positions, and the tickets for following it.

A position is given before its transaction commits, so the log may be read only up to where it is settled: no
transaction can still commit a position that low. `take_mark` is what tells; shared/db/event_horizon.py concludes.
"""

import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any, Final
from uuid import UUID

from shared.db.pool import Pool, Record
from shared.db.sql import load
from shared.domain.ids import ConnectionId, EventId, TenantId

_SQL: Final = load("events")
_TICKET_PREFIX: Final = "zt_"
_TICKET_BYTES: Final = 32
# One look of a filtered read takes in so many events, matching or not: some milliseconds.
_LOOK_ROWS: Final = 5000
_LEAST_ROWS: Final = 100  # of each connection, when a key is limited to very many


@dataclass(frozen=True, slots=True)
class Mark:
    """Once all of `writers` are gone, every position up to `last_given` is committed or will never be."""

    last_given: int
    writers: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One line of the log. `position` orders it and stays inside; clients know the `id`."""

    id: EventId
    position: int
    tenant_id: TenantId
    connection_id: ConnectionId | None
    type: str
    category: str
    severity: str
    payload: Any
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which events a reader is to see. `connection_ids` None: all, those without a connection too."""

    tenant_id: TenantId
    connection_ids: frozenset[ConnectionId] | None = None
    type: str | None = None
    category: str | None = None

    @property
    def is_narrow(self) -> bool:
        return (self.connection_ids, self.type, self.category) != (None, None, None)

    def matches(self, event: Event) -> bool:
        """As the queries of the log do."""
        return (
            event.tenant_id == self.tenant_id
            and (self.connection_ids is None or event.connection_id in self.connection_ids)
            and (self.type is None or event.type == self.type)
            and (self.category is None or event.category == self.category)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TicketHolder:
    """What a ticket stands for: the key it was made with, None for the admin key, as it was then."""

    tenant_id: TenantId
    key_id: UUID | None
    scopes: frozenset[str]
    connection_ids: tuple[ConnectionId, ...] | None


async def take_mark(pool: Pool) -> Mark:
    """Return what was given and who may still write, at this moment."""
    row = await pool.fetchrow(_SQL.mark)
    assert row is not None
    return Mark(row["last_given"], frozenset(row["writers"]))


async def kept(pool: Pool) -> int:
    """Return a position up to which the log is settled; another process may know a later one."""
    return int(await pool.fetchval(_SQL.kept))


async def keep(pool: Pool, settled: int) -> None:
    """Remember for processes that start later that the log is settled up to here. Cheap: mostly it changes nothing."""
    await pool.execute(_SQL.keep, settled)


async def forget_kept(pool: Pool) -> None:
    """Make every process find out anew how far the log is settled."""
    await pool.execute(_SQL.forget_kept)


async def position_of(
    pool: Pool, event_id: UUID, *, tenant_id: TenantId, allowed: Collection[ConnectionId] | None
) -> int | None:
    """Where an event stands; None when it was never there, is deleted, or is not for this caller."""
    position: int | None = await pool.fetchval(
        _SQL.position_of, event_id, tenant_id, None if allowed is None else list(allowed)
    )
    return position


async def connection_exists(pool: Pool, connection_id: UUID, *, tenant_id: TenantId) -> bool:
    """Whether the tenant has, or had, this connection: what it did stays in the log after it was deleted."""
    return bool(await pool.fetchval(_SQL.connection_exists, connection_id, tenant_id))


async def read_everything(pool: Pool, *, after: int, until: int, limit: int) -> list[Event]:
    """Every tenant's events past `after` and up to `until`, which must be settled; in order."""
    return [_event(row) for row in await pool.fetch(_SQL.everything, after, until, limit)]


async def read(pool: Pool, wanted: Wanted, *, after: int, until: int, limit: int) -> tuple[list[Event], int]:
    """The wanted events past `after` in order, and up to which position that is all of them.

    `until` must be settled. However rare the wanted events are, a call looks at no more than some thousand: it may
    return few or none and a position before `until`, from which to go on.
    """
    if not wanted.is_narrow:
        return _cut([_event(row) for row in await _page(pool, wanted, after, until, limit)], limit=limit, reach=until)
    reach = await _reach(pool, wanted, after, until)
    return _cut([_event(row) for row in await _page(pool, wanted, after, reach, limit)], limit=limit, reach=reach)


async def issue_ticket(pool: Pool, holder: TicketHolder, *, lasts_s: float) -> tuple[str, datetime]:
    """Make a ticket that opens one stream; return it and when it expires. Only its hash is kept."""
    ticket = _TICKET_PREFIX + secrets.token_urlsafe(_TICKET_BYTES)
    expires_at: datetime = await pool.fetchval(
        _SQL.insert_ticket,
        _hash(ticket),
        holder.tenant_id,
        holder.key_id,
        sorted(holder.scopes),
        None if holder.connection_ids is None else list(holder.connection_ids),
        lasts_s,
    )
    return ticket, expires_at


async def use_ticket(pool: Pool, ticket: str) -> TicketHolder | None:
    """Use a ticket up and return who it stands for; None when it is unknown, used or expired, or its key ended.

    Of any number of calls, in any process, one gets it.
    """
    row = await pool.fetchrow(_SQL.use_ticket, _hash(ticket))
    if row is None:
        return None
    ids = row["connection_ids"]
    return TicketHolder(
        tenant_id=TenantId(row["tenant_id"]),
        key_id=row["key_id"],
        scopes=frozenset(row["scopes"]),
        connection_ids=None if ids is None else tuple(ConnectionId(one) for one in ids),
    )


async def ended_keys(pool: Pool, key_ids: Collection[UUID]) -> frozenset[UUID]:
    """Those of the keys that were revoked or have expired."""
    return frozenset(row["id"] for row in await pool.fetch(_SQL.ended_keys, list(key_ids)))


async def _reach(pool: Pool, wanted: Wanted, after: int, until: int) -> int:
    if wanted.connection_ids is None:
        rows = _LOOK_ROWS
        row = await pool.fetchrow(_SQL.reach, after, until, rows)
    else:
        rows = max(_LOOK_ROWS // max(len(wanted.connection_ids), 1), _LEAST_ROWS)
        row = await pool.fetchrow(_SQL.reach_of, after, until, rows, list(wanted.connection_ids))
    assert row is not None
    return until if row["looked_at"] < rows else int(row["reach"])


async def _page(pool: Pool, wanted: Wanted, after: int, until: int, limit: int) -> list[Record]:
    # One more than asked for tells whether there are more.
    bounds = (after, until, wanted.tenant_id, wanted.type, wanted.category, limit + 1)
    if wanted.connection_ids is None:
        return await pool.fetch(_SQL.page, *bounds)
    return await pool.fetch(_SQL.page_of, *bounds, list(wanted.connection_ids))


def _cut(events: list[Event], *, limit: int, reach: int) -> tuple[list[Event], int]:
    return (events[:limit], events[limit - 1].position) if len(events) > limit else (events, reach)


def _hash(ticket: str) -> bytes:
    return sha256(ticket.encode()).digest()


def _event(row: Record) -> Event:
    return Event(
        id=EventId(row["id"]),
        position=row["position"],
        tenant_id=TenantId(row["tenant_id"]),
        connection_id=row["connection_id"],
        type=row["type"],
        category=row["category"],
        severity=row["severity"],
        payload=row["payload"],
        created_at=row["created_at"],
    )
