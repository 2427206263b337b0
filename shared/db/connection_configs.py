"""The settings of connections, read by those who act on them; a proxy stays sealed here."""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from shared.db.pool import Connection, Pool
from shared.db.sql import load
from shared.domain.connection_config import ConnectionConfig
from shared.domain.ids import ConnectionId, TenantId

_SQL: Final = load("connection_configs")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredConfig:
    """`stored` is the row's own; `proxy_sealed` opens to the proxy's whole URL (shared.egress.proxy), None: none."""

    tenant_id: TenantId
    stored: dict[str, Any]
    proxy_sealed: bytes | None = field(repr=False)

    @property
    def config(self) -> ConnectionConfig:
        return ConnectionConfig.from_stored(self.stored)


async def read(connection: Connection | Pool, ids: Collection[UUID]) -> dict[ConnectionId, StoredConfig]:
    """The settings of these connections as they are now; one that never was is left out."""
    rows = await connection.fetch(_SQL.read, list(ids))
    return {
        ConnectionId(row["id"]): StoredConfig(
            tenant_id=TenantId(row["tenant_id"]), stored=row["config"], proxy_sealed=row["proxy_sealed"]
        )
        for row in rows
    }


async def set_proxy(connection: Connection, connection_id: UUID, sealed: bytes | None) -> None:
    """Keep the proxy of a connection that the caller has locked; None takes it away."""
    await connection.execute(_SQL.set_proxy, connection_id, sealed)
