"""What was made for an endpoint and what it missed, as people read it and send it again; over the deliveries' table."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from shared.db.pool import Connection, Record
from shared.db.sql import load
from shared.db.webhook_deliveries import Occurrence, occurrence_of
from shared.domain.ids import ConnectionId, DeliveryId, EndpointId, TenantId
from shared.domain.webhook import DeliveryStatus

_SQL: Final = load("webhook_deliveries")

# Where an event stands in the log, by time.
EventPlace = tuple[datetime, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Missed:
    """An event that an endpoint has no delivery of."""

    connection_id: ConnectionId | None
    event: Occurrence
    place: EventPlace


async def page(
    connection: Connection,
    endpoint_id: EndpointId,
    *,
    status: DeliveryStatus | None = None,
    allowed: Sequence[ConnectionId] | None = None,
    after: tuple[datetime, UUID] | None = None,
    limit: int,
) -> list[Record]:
    """An endpoint's deliveries that this caller may see, newest first; `after` is the last one seen."""
    return await connection.fetch(_SQL.list, endpoint_id, status, *(after or (None, None)), limit, allowed)


async def get(
    connection: Connection, delivery_id: UUID, *, tenant_id: TenantId, allowed: Sequence[ConnectionId] | None = None
) -> Record | None:
    """One delivery that this caller may see, with its body as text."""
    return await connection.fetchrow(_SQL.get, delivery_id, tenant_id, allowed)


async def reopen(connection: Connection, delivery_ids: Sequence[DeliveryId]) -> None:
    """Say that these are on their way again; what was delivered stays so. Enqueue their jobs before."""
    await connection.execute(_SQL.reopen, delivery_ids)


async def forget_dead_letters(connection: Connection, queue_id: int, job_ids: Sequence[str]) -> None:
    """Forget the jobs of these ids that were given up: others run in their place."""
    await connection.execute(_SQL.forget_dead_letters, queue_id, job_ids)


async def now(connection: Connection) -> datetime:
    """The time by the clock that dates deliveries."""
    at: datetime = await connection.fetchval(_SQL.now)
    return at


async def attempts_of(connection: Connection, delivery_id: UUID) -> list[Record]:
    """A delivery's tries, oldest first. `response` is the receiver's own bytes: escape them where they are shown."""
    return await connection.fetch(_SQL.attempts_of, delivery_id)


async def missing(
    connection: Connection,
    endpoint_id: EndpointId,
    *,
    since: datetime,
    until: datetime,
    after: EventPlace | None,
    limit: int,
) -> list[Missed]:
    """Return the events of a time that the endpoint subscribes to and has no delivery of, in order."""
    rows = await connection.fetch(_SQL.missing_in_range, endpoint_id, since, until, *(after or (None, None)), limit)
    return [
        Missed(
            connection_id=row["connection_id"],
            event=occurrence_of(row),
            place=(row["created_at"], row["position"]),
        )
        for row in rows
    ]


async def made_in(
    connection: Connection,
    endpoint_id: EndpointId,
    *,
    since: datetime,
    until: datetime,
    allowed: Sequence[ConnectionId] | None,
    after: UUID | None,
    limit: int,
) -> list[tuple[DeliveryId, ConnectionId | None]]:
    """Deliveries made in a time that are not on their way, in order; `after` is the last one seen.

    `allowed`: those that a caller limited to these connections may see; None: all.
    """
    rows = await connection.fetch(_SQL.in_range, endpoint_id, since, until, after, limit, allowed)
    return [(DeliveryId(row["id"]), row["connection_id"]) for row in rows]


async def has_others_waiting(
    connection: Connection, endpoint_id: EndpointId, connection_ids: Sequence[ConnectionId]
) -> bool:
    """Whether anything of other connections than these is on its way to the endpoint, as when it had them once."""
    found: bool = await connection.fetchval(_SQL.has_others_waiting, endpoint_id, connection_ids)
    return found
