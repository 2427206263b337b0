"""API keys: shown once, kept only as a hash, looked up on every request so that a revoked one stops at once."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from hashlib import sha256
from typing import Any, Final
from uuid import UUID, uuid4

from shared.db.pool import Connection, Record
from shared.db.sql import load
from shared.domain.errors import InvalidInput, NotFound
from shared.domain.ids import ConnectionId, TenantId

_SQL = load("api_keys")
_PREFIX: Final = "zh_"
_KEY_BYTES: Final = 32
_HINT_CHARACTERS: Final = 8  # of the key, the prefix included: 30 of its 256 random bits


class Scope(StrEnum):
    """What a key may do. `admin` may do everything; a `:write` does not include its `:read`."""

    CONNECTIONS_READ = "connections:read"
    CONNECTIONS_WRITE = "connections:write"
    MESSAGES_READ = "messages:read"
    MESSAGES_WRITE = "messages:write"
    WEBHOOKS_READ = "webhooks:read"
    WEBHOOKS_WRITE = "webhooks:write"
    QUEUES_READ = "queues:read"
    QUEUES_WRITE = "queues:write"
    EVENTS_READ = "events:read"
    EVENTS_WRITE = "events:write"
    KEYS_READ = "keys:read"
    KEYS_WRITE = "keys:write"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key without its secret. `connection_ids` None: every connection of the tenant."""

    id: UUID
    name: str
    hint: str
    scopes: tuple[str, ...]
    connection_ids: tuple[ConnectionId, ...] | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyHolder:
    """What a valid key stands for."""

    id: UUID
    tenant_id: TenantId
    scopes: frozenset[str]
    connection_ids: tuple[ConnectionId, ...] | None


async def create(
    connection: Connection,
    *,
    tenant_id: TenantId,
    name: str,
    scopes: Sequence[Scope],
    connection_ids: Sequence[ConnectionId] | None = None,
    expires_at: datetime | None = None,
) -> tuple[ApiKey, str]:
    """Make a key; the second value is the key itself, which nobody can show again.

    Raises InvalidInput when the tenant has no such connection.
    """
    await _refuse_foreign(connection, connection_ids, tenant_id=tenant_id)
    key = _PREFIX + secrets.token_urlsafe(_KEY_BYTES)
    row = await connection.fetchrow(
        _SQL.insert,
        uuid4(),
        tenant_id,
        name,
        _hash(key.encode()),
        key[:_HINT_CHARACTERS],
        sorted(set(scopes)),
        None if connection_ids is None else list(connection_ids),
        expires_at,
    )
    assert row is not None
    return _api_key(row), key


async def authenticate(connection: Connection, digests: Sequence[bytes]) -> list[KeyHolder | None]:
    """Who holds each of these keys, given as SHA-256, or None when it is unknown, revoked or expired; in order.

    The lookup is by the hash of 256 random bits, so its timing tells nothing about another key.
    """
    found = {row["key_hash"]: row for row in await connection.fetch(_SQL.find, sorted(set(digests)))}
    if stale := [row["id"] for row in found.values() if row["is_use_stale"]]:
        await connection.execute(_SQL.touch, stale)
    holders = {digest: _holder(row) for digest, row in found.items()}
    return [holders.get(digest) for digest in digests]


async def list_keys(
    connection: Connection, *, tenant_id: TenantId, after: tuple[datetime, UUID] | None = None, limit: int = 200
) -> list[ApiKey]:
    """Newest first, revoked and expired ones included; `after` is the last one already seen."""
    created_at, last_id = after or (None, None)
    return [_api_key(row) for row in await connection.fetch(_SQL.list, tenant_id, created_at, last_id, limit)]


async def get(connection: Connection, key_id: UUID, *, tenant_id: TenantId) -> ApiKey:
    """One key. Raises NotFound."""
    return _found(await connection.fetchrow(_SQL.get, key_id, tenant_id))


async def lock(connection: Connection, key_id: UUID, *, tenant_id: TenantId) -> ApiKey:
    """One key, which nobody else changes until the transaction ends. Raises NotFound."""
    return _found(await connection.fetchrow(_SQL.lock, key_id, tenant_id))


async def change(connection: Connection, before: ApiKey, changes: Mapping[str, Any], *, tenant_id: TenantId) -> ApiKey:
    """Give the key another `name`, `scopes`, `connection_ids` or `expires_at`; what is not named stays.

    Raises InvalidInput when the tenant has no such connection.
    """
    after = replace(before, **changes)
    if after.connection_ids != before.connection_ids:
        await _refuse_foreign(connection, after.connection_ids, tenant_id=tenant_id)
    return _found(
        await connection.fetchrow(
            _SQL.change,
            before.id,
            tenant_id,
            after.name,
            sorted(set(after.scopes)),
            None if after.connection_ids is None else list(after.connection_ids),
            after.expires_at,
        )
    )


async def revoke(connection: Connection, key_id: UUID, *, tenant_id: TenantId) -> ApiKey:
    """End a key for good, from the next request on; again, and nothing changes. Raises NotFound."""
    return _found(await connection.fetchrow(_SQL.revoke, key_id, tenant_id))


async def revoke_of_connection(
    connection: Connection, connection_id: ConnectionId, *, name: str, tenant_id: TenantId
) -> None:
    """End the keys of this name that are limited to this connection alone; again, and nothing changes."""
    await connection.execute(_SQL.revoke_of_connection, tenant_id, connection_id, name)


async def _refuse_foreign(connection: Connection, ids: Sequence[ConnectionId] | None, *, tenant_id: TenantId) -> None:
    if ids is not None and (foreign := await connection.fetch(_SQL.foreign_connections, tenant_id, list(ids))):
        raise InvalidInput(f"There is no connection {foreign[0]['id']}.", pointer="/connection_ids")


def _holder(row: Record) -> KeyHolder:
    return KeyHolder(
        id=row["id"],
        tenant_id=row["tenant_id"],
        scopes=frozenset(row["scopes"]),
        connection_ids=_ids(row["connection_ids"]),
    )


def _hash(key: bytes) -> bytes:
    return sha256(key).digest()


def _found(row: Record | None) -> ApiKey:
    if row is None:
        raise NotFound("There is no such API key.")
    return _api_key(row)


def _ids(ids: list[UUID] | None) -> tuple[ConnectionId, ...] | None:
    return None if ids is None else tuple(ConnectionId(one) for one in ids)


def _api_key(row: Record) -> ApiKey:
    return ApiKey(
        id=row["id"],
        name=row["name"],
        hint=row["key_hint"],
        scopes=tuple(row["scopes"]),
        connection_ids=_ids(row["connection_ids"]),
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        revoked_at=row["revoked_at"],
        last_used_at=row["last_used_at"],
    )
