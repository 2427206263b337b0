"""The webhook_endpoints table: where webhooks go, and the sealed secrets that sign them.

Functions take a connection; callers own the transaction. URLs are judged before they get here (shared/egress/target).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID, uuid5

from shared.db import webhook_circuits
from shared.db.pool import Connection, Record
from shared.db.sql import load
from shared.domain.ids import ConnectionId, EndpointId, TenantId
from shared.domain.webhook import DisableEndpoint, Endpoint, PayloadFormat
from shared.domain.webhook_secret import Keyring, new_secret
from shared.sealing import Sealer

_SQL: Final = load("webhooks")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEndpoint:
    """A row to insert; its secrets and header values are sealed already."""

    id: EndpointId
    tenant_id: TenantId
    owner_id: ConnectionId | None
    url: str
    secrets_sealed: bytes
    events: Sequence[str]
    connection_ids: Sequence[ConnectionId] | None
    headers_sealed: Mapping[str, str]
    keeps_order: bool
    payload_format: PayloadFormat


def secrets_context(endpoint_id: EndpointId) -> str:
    """What an endpoint's sealed secrets are bound to."""
    return f"webhook_endpoints.secrets {endpoint_id}"


async def insert(connection: Connection, new: NewEndpoint) -> bool:
    """Create it; False when its connection has an endpoint of its own already."""
    created = await connection.fetchval(
        _SQL.insert,
        new.id,
        new.tenant_id,
        new.owner_id,
        new.url,
        new.secrets_sealed,
        list(new.events),
        None if new.connection_ids is None else list(new.connection_ids),
        dict(new.headers_sealed),
        new.keeps_order,
        new.payload_format.value,
    )
    return created is not None


async def get(
    connection: Connection,
    endpoint_id: UUID,
    *,
    tenant_id: TenantId,
    allowed: Sequence[ConnectionId] | None = None,
    lock: bool = False,
) -> Endpoint | None:
    """One endpoint that this caller may see; with `lock` nobody else changes it before the commit."""
    row = await connection.fetchrow(_SQL.lock if lock else _SQL.get, endpoint_id, tenant_id, allowed)
    return None if row is None else endpoint_of(row)


async def page(
    connection: Connection,
    *,
    tenant_id: TenantId,
    allowed: Sequence[ConnectionId] | None = None,
    after: tuple[datetime, UUID] | None = None,
    limit: int,
) -> list[Endpoint]:
    """Endpoints that this caller may see, newest first; `after` is the last one seen."""
    rows = await connection.fetch(_SQL.list, tenant_id, allowed, *(after or (None, None)), limit)
    return [endpoint_of(row) for row in rows]


async def count(connection: Connection, *, tenant_id: TenantId) -> int:
    """How many endpoints were registered by themselves, not as a connection's `webhook_url` or for one URL."""
    counted: int = await connection.fetchval(_SQL.count, tenant_id)
    return counted


async def unknown_connections(
    connection: Connection,
    wanted: Sequence[ConnectionId],
    *,
    tenant_id: TenantId,
    allowed: Sequence[ConnectionId] | None = None,
) -> set[ConnectionId]:
    """Those of `wanted` that this caller does not have."""
    rows = await connection.fetch(_SQL.unknown_connections, tenant_id, list(wanted), allowed)
    return {ConnectionId(row["id"]) for row in rows}


async def of_connection(connection: Connection, connection_id: ConnectionId) -> Endpoint | None:
    """Return the endpoint of a connection's own `webhook_url`, locked until the commit."""
    row = await connection.fetchrow(_SQL.of_connection, connection_id)
    return None if row is None else endpoint_of(row)


async def update(connection: Connection, endpoint: Endpoint, *, headers_sealed: Mapping[str, str] | None) -> Endpoint:
    """Write url, events, connections, order and format of `endpoint`, and its headers unless None.

    It may be tried at once, and another URL enables it again.
    """
    row = await connection.fetchrow(
        _SQL.update,
        endpoint.id,
        endpoint.url,
        list(endpoint.events),
        None if endpoint.connection_ids is None else list(endpoint.connection_ids),
        None if headers_sealed is None else dict(headers_sealed),
        endpoint.keeps_order,
        endpoint.payload_format.value,
    )
    assert row is not None, "the caller read it under lock"
    await webhook_circuits.close(connection, endpoint.id)
    return endpoint_of(row)


async def set_enabled(
    connection: Connection, endpoint_id: EndpointId, *, enabled: bool, reason: str | None = None
) -> Endpoint | None:
    """Enable or disable it; None when there is none. What it missed while disabled comes with a replay."""
    row = await connection.fetchrow(_SQL.set_enabled, endpoint_id, enabled, reason)
    await webhook_circuits.close(connection, endpoint_id)
    return None if row is None else endpoint_of(row)


async def delete(connection: Connection, endpoint_id: EndpointId) -> None:
    """Forget its secrets and send it nothing more; deliveries on their way are canceled as they come up."""
    await connection.execute(_SQL.delete, endpoint_id)
    await webhook_circuits.close(connection, endpoint_id)


async def read_secrets(connection: Connection, endpoint_id: EndpointId) -> bytes | None:
    """Its sealed secrets, locked until the commit."""
    sealed: bytes | None = await connection.fetchval(_SQL.secrets, endpoint_id)
    return sealed


async def write_secrets(connection: Connection, endpoint_id: EndpointId, sealed: bytes) -> None:
    await connection.execute(_SQL.set_secrets, endpoint_id, sealed)


async def find_or_create(
    connection: Connection, *, connection_id: ConnectionId, url: str, sealer: Sealer
) -> EndpointId | None:
    """Return the endpoint to which a connection's webhooks for `url` go; None when there is no such connection.

    The connection's own is taken first, then one of the tenant, so that the receiver finds the signature it knows. When
    nobody registered the URL, an endpoint without any subscription is made for it, the same one every time: a job must
    hold neither URL nor secret. Its secret is shown by rotating it.
    """
    row = await connection.fetchrow(_SQL.of_url, connection_id, url)
    if row is None:
        return None
    if row["endpoint_id"] is not None:
        return EndpointId(row["endpoint_id"])
    endpoint_id = EndpointId(uuid5(row["tenant_id"], f"webhook {url}"))
    secrets = sealer.seal(Keyring.of(new_secret()).dump(), context=secrets_context(endpoint_id))
    await connection.execute(_SQL.insert_unsubscribed, endpoint_id, row["tenant_id"], url, secrets)
    return endpoint_id


async def disable(connection: Connection, write: DisableEndpoint) -> bool:
    """Apply a DisableEndpoint; True when its event becomes webhooks, and then the caller wants a fan-out job."""
    return bool(
        await connection.fetchval(_SQL.disable, write.endpoint_id, write.url, write.reason, write.connection_id)
    )


def endpoint_of(row: Record | Mapping[str, Any]) -> Endpoint:
    """Parse a row of one of this table's queries."""
    return Endpoint(
        id=EndpointId(row["id"]),
        tenant_id=TenantId(row["tenant_id"]),
        owner_id=row["owner_id"] and ConnectionId(row["owner_id"]),
        url=row["url"],
        events=tuple(row["events"]),
        connection_ids=None if row["connection_ids"] is None else tuple(map(ConnectionId, row["connection_ids"])),
        header_names=tuple(row["headers"]),
        keeps_order=row["keeps_order"],
        payload_format=PayloadFormat(row["payload_format"]),
        enabled=row["enabled"],
        disabled_reason=row["disabled_reason"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
