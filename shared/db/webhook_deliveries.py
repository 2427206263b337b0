"""The webhook_deliveries table: making deliveries with their sequence numbers, reading them, recording their tries.

Functions take a connection; callers own the transaction. A transaction that also enqueues does so last: deliveries
and sequences are locked before the ledger's groups, never after.
"""

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from typing import Any, Final
from uuid import UUID, uuid4

from shared.db import webhook_circuits, webhooks
from shared.db.pool import Connection, Record
from shared.db.sql import load
from shared.domain.errors import InvalidInput, NotFound
from shared.domain.ids import ConnectionId, DeliveryId, EndpointId, EventId, TenantId
from shared.domain.jobs import NewJob
from shared.domain.webhook import (
    DeliveryStatus,
    DisableEndpoint,
    EndDelivery,
    Endpoint,
    Parcel,
    PayloadFormat,
    PostponeDelivery,
    RecordAttempt,
    delivery_id_of,
    delivery_job,
    freeze_body,
    is_event_type,
)
from shared.sealing import Sealer

_SQL: Final = load("webhook_deliveries")

# With the 1 of every failure, three tries without an answer in time open a circuit; of others it takes ten.
_TIMEOUT_WEIGHT: Final = 3
_FAILED_FOR_DAYS: Final = f"no webhook was accepted for {webhook_circuits.DISABLE_AFTER_DAYS:g} days"


@dataclass(frozen=True, slots=True, kw_only=True)
class Occurrence:
    """An event as its webhooks tell it. `payload_json` is the payload as Postgres writes it; `chat` is a message's."""

    id: EventId
    tenant_id: TenantId
    type: str
    payload_json: str
    at: datetime
    external_id: str | None
    chat: str | None = None


async def lock_fan_out(connection: Connection, connection_id: ConnectionId | None) -> None:
    """Wait until no other transaction makes deliveries of this connection's events; held until the commit."""
    await connection.execute(_SQL.lock_fan_out, str(connection_id))


async def take_events(connection: Connection, connection_id: ConnectionId | None, *, limit: int) -> list[Occurrence]:
    """Return the connection's first events without deliveries, in order. Call `lock_fan_out` before."""
    return [occurrence_of(row) for row in await connection.fetch(_SQL.take_events, connection_id, limit)]


async def mark_fanned_out(connection: Connection, events: Sequence[Occurrence]) -> None:
    await connection.execute(_SQL.mark_fanned_out, [event.id for event in events])


async def has_more_events(connection: Connection, connection_id: ConnectionId | None) -> bool:
    return bool(await connection.fetchval(_SQL.has_more_events, connection_id))


async def sweep_missed(connection: Connection, *, limit: int = 100) -> list[ConnectionId]:
    """Connections with an event that waits longer than 2 s for its fan-out: enqueue a `fan_out_job` for each.

    The safety net for whoever wrote an event and no job. Cheap enough for every sweep, however long the backlog is.
    """
    return [ConnectionId(row["connection_id"]) for row in await connection.fetch(_SQL.missed, limit)]


async def enabled_endpoints(
    connection: Connection, tenants: Sequence[TenantId], connection_id: ConnectionId | None
) -> list[Endpoint]:
    """The tenants' endpoints that may get webhooks of this connection; none of them goes away before the commit."""
    rows = await connection.fetch(_SQL.enabled_endpoints, tenants, connection_id)
    return [webhooks.endpoint_of(row) for row in rows]


async def make(
    connection: Connection,
    connection_id: ConnectionId | None,
    pairs: Sequence[tuple[EndpointId, Occurrence]],
    *,
    priority: int | None = None,
    ordered: Collection[EndpointId] = (),
    bodies: Mapping[tuple[EndpointId, EventId], bytes] | None = None,
) -> list[NewJob]:
    """Make the deliveries that do not exist yet, numbered in the order of `pairs`, and return a job for each.

    The deliveries of `ordered` endpoints go one after the other within a chat. `bodies` are those in another form than
    ZapHub's own.
    Numbers are given with their sequence's row locked and go back with a rollback, so an endpoint sees none missing.
    """
    endpoints = [endpoint_id for endpoint_id, _ in pairs]
    made = await connection.fetch(_SQL.made_already, endpoints, [event.id for _, event in pairs])
    known = {(row["endpoint_id"], row["event_id"]) for row in made}
    todo = [(endpoint_id, event) for endpoint_id, event in pairs if (endpoint_id, event.id) not in known]
    numbers = await _numbers(connection, connection_id, Counter(endpoint_id for endpoint_id, _ in todo))
    rows: list[tuple[DeliveryId, EndpointId, EventId, str, int, bytes]] = []
    jobs: list[NewJob] = []
    for endpoint_id, event in todo:
        delivery_id, sequence = delivery_id_of(endpoint_id, event.id), next(numbers[endpoint_id])
        body = (bodies or {}).get((endpoint_id, event.id)) or freeze_body(
            delivery_id=delivery_id,
            event_type=event.type,
            connection_id=connection_id,
            external_id=event.external_id,
            sequence=sequence,
            at=event.at,
            payload_json=event.payload_json,
        )
        rows.append((delivery_id, endpoint_id, event.id, event.type, sequence, body))
        keeps_order = endpoint_id in ordered and event.chat is not None
        jobs.append(
            delivery_job(
                delivery_id,
                endpoint_id=endpoint_id,
                connection_id=connection_id,
                priority=priority,
                order_key=f"{connection_id}:{event.chat}" if keeps_order else None,
            )
        )
    if rows:
        await connection.execute(_SQL.insert, connection_id, *map(list, zip(*rows, strict=True)))
    return jobs


async def send_to_url(
    connection: Connection,
    *,
    connection_id: ConnectionId,
    url: str,
    event_type: str,
    payload: Mapping[str, Any],
    sealer: Sealer,
    priority: int | None = None,
    new_id: Callable[[], UUID] = uuid4,
) -> NewJob:
    """Make one delivery to a URL that need not be registered, and return its job for the caller to enqueue.

    The delivery belongs to the endpoint that `webhooks.find_or_create` gives for the URL, so that it is signed,
    numbered and listed like every other, and neither URL nor secret is inside a job. The URL is judged when it is sent.
    Calling twice sends twice. Raises NotFound when there is no such connection, InvalidInput when `payload` is no JSON.
    """
    endpoint_id = await webhooks.find_or_create(connection, connection_id=connection_id, url=url, sealer=sealer)
    if endpoint_id is None:
        raise NotFound("no such connection.")
    [job] = await send_to_endpoint(
        connection,
        endpoint_id,
        connection_id=connection_id,
        event_type=event_type,
        payload=payload,
        priority=priority,
        new_id=new_id,
    )
    return job


async def send_to_endpoint(
    connection: Connection,
    endpoint_id: EndpointId,
    *,
    connection_id: ConnectionId | None,
    event_type: str,
    payload: Mapping[str, Any],
    priority: int | None = None,
    new_id: Callable[[], UUID] = uuid4,
) -> list[NewJob]:
    """Make one delivery of something that is not in the event log (a test, a caller's own event); return its job.

    Raises NotFound when there is no such endpoint, and InvalidInput when the name or payload cannot be sent.
    """
    if not is_event_type(event_type):
        raise InvalidInput("an event's name is 1 to 100 letters, digits and . _ : -", pointer="/event")
    try:
        payload_json = json.dumps(payload, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        payload_json.encode()
    except (TypeError, ValueError):
        raise InvalidInput("the payload is not JSON.", pointer="/payload") from None
    row = await connection.fetchrow(_SQL.about_endpoint, endpoint_id, connection_id)
    if row is None:
        raise NotFound("no such endpoint.")
    event = Occurrence(
        id=EventId(new_id()),
        tenant_id=TenantId(row["tenant_id"]),
        type=event_type,
        payload_json=payload_json,
        at=row["now"],
        external_id=row["external_id"],
    )
    return await make(connection, connection_id, [(endpoint_id, event)], priority=priority)


async def parcel(connection: Connection, delivery_id: DeliveryId) -> Parcel | None:
    """Return what to send and where to, as it holds now; None when retention was faster."""
    row = await connection.fetchrow(_SQL.parcel, delivery_id)
    if row is None:
        return None
    return Parcel(
        id=DeliveryId(row["id"]),
        endpoint_id=EndpointId(row["endpoint_id"]),
        connection_id=row["connection_id"],
        event_type=row["event_type"],
        body=row["body"],
        status=DeliveryStatus(row["status"]),
        attempts=row["attempts"],
        url=row["url"],
        secrets_sealed=row["secrets_encrypted"],
        headers_sealed=row["headers"],
        payload_format=PayloadFormat(row["payload_format"]),
        is_enabled=row["is_enabled"],
    )


async def record_attempts(connection: Connection, writes: Sequence[RecordAttempt]) -> set[ConnectionId | None]:
    """Apply RecordAttempts of different deliveries in one statement, and what they mean for their endpoints' circuits.

    Returns whose new events become webhooks: an endpoint that failed for days was disabled.
    """
    rows = await connection.fetch(
        _SQL.record_attempts,
        [write.delivery_id for write in writes],
        [write.attempt for write in writes],
        [write.after.value for write in writes],
        [write.duration_ms for write in writes],
        [write.http_status for write in writes],
        [write.error for write in writes],
        [write.response for write in writes],
        [write.retry_in_s for write in writes],
        [write.hold_s for write in writes],
    )
    to_tell: set[ConnectionId | None] = set()
    for row in rows:
        endpoint_id = EndpointId(row["endpoint_id"])
        if row["is_well"]:
            await webhook_circuits.close(connection, endpoint_id)
            continue
        weight = row["failures"] + _TIMEOUT_WEIGHT * row["timeouts"]
        is_dead = await webhook_circuits.strain(
            connection, endpoint_id, failures=row["failures"], weight=weight, hold_s=row["hold_s"]
        )
        if not is_dead:
            continue
        disable = DisableEndpoint(
            endpoint_id=endpoint_id, connection_id=row["connection_id"], url=None, reason=_FAILED_FOR_DAYS
        )
        if await webhooks.disable(connection, disable):
            to_tell.add(disable.connection_id)
    return to_tell


async def postpone(connection: Connection, writes: Sequence[PostponeDelivery]) -> None:
    """Apply PostponeDeliveries in one statement.

    Those that our own network or name server stopped held a worker meanwhile, as one without an answer does, and a name
    that hangs may be the receiver's fault after all: they open its circuit, and count no failure.
    """
    rows = await connection.fetch(
        _SQL.postpone,
        [write.delivery_id for write in writes],
        [write.reason for write in writes],
        [write.retry_in_s for write in writes],
    )
    for row in rows:
        weight = (1 + _TIMEOUT_WEIGHT) * row["held"]
        await webhook_circuits.strain(connection, EndpointId(row["endpoint_id"]), failures=0, weight=weight)


async def end(connection: Connection, writes: Sequence[EndDelivery]) -> None:
    """Apply EndDeliveries in one statement."""
    await connection.execute(
        _SQL.end,
        [write.delivery_id for write in writes],
        [write.after.value for write in writes],
        [write.reason for write in writes],
    )


async def _numbers(
    connection: Connection, connection_id: ConnectionId | None, wanted: Mapping[EndpointId, int]
) -> dict[EndpointId, Iterator[int]]:
    ordered = sorted(wanted)  # two transactions that lock several sequences must do it in one order
    rows = await connection.fetch(_SQL.advance_sequences, connection_id, ordered, [wanted[one] for one in ordered])
    return {row["endpoint_id"]: count(row["last"] - wanted[row["endpoint_id"]] + 1) for row in rows}


def occurrence_of(row: Record) -> Occurrence:
    """Parse a row of one of this aggregate's queries for events."""
    return Occurrence(
        id=EventId(row["id"]),
        tenant_id=TenantId(row["tenant_id"]),
        type=row["type"],
        payload_json=row["payload"],
        at=row["created_at"],
        external_id=row["external_id"],
        chat=row["chat"],
    )
