"""Make the deliveries of a connection's new events: numbered, frozen, with a job each."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from shared.db import webhook_deliveries as deliveries
from shared.db import webhook_log
from shared.db.pool import Connection
from shared.domain.ids import ConnectionId, DeliveryId
from shared.domain.jobs import NewJob
from shared.domain.webhook import Endpoint, delivery_job, matches
from shared.webhooks.formats.freezing import freeze

BATCH_EVENTS: Final = 200  # a transaction of some tens of milliseconds; a longer one would hold the sequences too long


@dataclass(frozen=True, slots=True, kw_only=True)
class FannedOut:
    """What one batch made: jobs to enqueue in the same transaction, last. The fan-out goes on while `has_more`."""

    events: int
    jobs: list[NewJob]
    has_more: bool


async def fan_out(
    connection: Connection, connection_id: ConnectionId | None, *, limit: int = BATCH_EVENTS
) -> FannedOut:
    """Make the deliveries of at most `limit` events, in the order they were written, in the caller's transaction.

    Run twice, or twice at once, it makes each delivery once and leaves no gap in a sequence: fan-outs of one connection
    wait for each other. Rolled back, nothing happened.
    """
    await deliveries.lock_fan_out(connection, connection_id)
    events = await deliveries.take_events(connection, connection_id, limit=limit)
    if not events:
        return FannedOut(events=0, jobs=[], has_more=False)
    tenants = list({event.tenant_id for event in events})
    endpoints = await deliveries.enabled_endpoints(connection, tenants, connection_id)
    wanted = [
        (endpoint, event)
        for event in events
        for endpoint in endpoints
        if endpoint.tenant_id == event.tenant_id and matches(endpoint, event.type, connection_id)
    ]
    frozen = await freeze(connection, connection_id, wanted)
    ordered = {endpoint.id for endpoint in endpoints if endpoint.keeps_order}
    jobs = await deliveries.make(connection, connection_id, frozen.pairs, ordered=ordered, bodies=frozen.bodies)
    await deliveries.mark_fanned_out(connection, events)
    has_more = len(events) == limit and await deliveries.has_more_events(connection, connection_id)
    return FannedOut(events=len(events), jobs=jobs, has_more=has_more)


# What is new goes before what is sent again.
_REPLAY_PRIORITY: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """One page of a replay: jobs to enqueue in the same transaction. Go on with `after` until it is None."""

    delivery_ids: list[DeliveryId]
    jobs: list[NewJob]
    after: DeliveryId | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Missed:
    """One page of what an endpoint missed, with its jobs as in Replayed."""

    jobs: list[NewJob]
    after: webhook_log.EventPlace | None


async def replay_missed(
    connection: Connection,
    endpoint: Endpoint,
    *,
    since: datetime,
    until: datetime,
    after: webhook_log.EventPlace | None = None,
    limit: int = 500,
) -> Missed:
    """Make the deliveries of what the endpoint missed in a time, as when it was disabled. They get new numbers."""
    found = await webhook_log.missing(connection, endpoint.id, since=since, until=until, after=after, limit=limit)
    missed: dict[ConnectionId | None, list[deliveries.Occurrence]] = {}
    for one in found:
        missed.setdefault(one.connection_id, []).append(one.event)
    jobs: list[NewJob] = []
    for connection_id in sorted(missed, key=str):
        await deliveries.lock_fan_out(connection, connection_id)
        frozen = await freeze(connection, connection_id, [(endpoint, event) for event in missed[connection_id]])
        jobs += await deliveries.make(
            connection,
            connection_id,
            frozen.pairs,
            priority=_REPLAY_PRIORITY,
            ordered={endpoint.id} if endpoint.keeps_order else (),
            bodies=frozen.bodies,
        )
    return Missed(jobs=jobs, after=found[-1].place if len(found) == limit else None)


async def replay_made(
    connection: Connection,
    endpoint: Endpoint,
    *,
    since: datetime,
    until: datetime,
    allowed: Sequence[ConnectionId] | None = None,
    after: UUID | None = None,
    limit: int = 500,
) -> Replayed:
    """Send an endpoint again what was made for it in a time, page by page.

    Each keeps its id, body and number, so a receiver that has it can tell. What is on its way is left alone, and so is
    what the endpoint got of connections that are not `allowed` (None: all are), when it had these once.
    """
    made = await webhook_log.made_in(
        connection, endpoint.id, since=since, until=until, allowed=allowed, after=after, limit=limit
    )
    return Replayed(
        delivery_ids=[delivery_id for delivery_id, _ in made],
        jobs=[
            delivery_job(
                delivery_id,
                endpoint_id=endpoint.id,
                connection_id=connection_id,
                priority=_REPLAY_PRIORITY,
                again=True,
            )
            for delivery_id, connection_id in made
        ],
        after=made[-1][0] if len(made) == limit else None,
    )
