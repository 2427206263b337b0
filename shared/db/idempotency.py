"""Idempotency keys: the first request with a key does the work, every other one gets what the first one made.

The key's row is written in the transaction of the work, so either both are there or neither. It is the first lock that
such a transaction takes, before the product's lock order begins.
"""

from dataclasses import dataclass
from typing import Any

from shared.db.pool import Connection
from shared.db.sql import load
from shared.domain.errors import Conflict
from shared.domain.ids import TenantId

_SQL = load("idempotency")


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyedRequest:
    """A request with a key. `scope` is what the key counts for: the same key elsewhere is another key."""

    tenant_id: TenantId
    scope: str
    key: str
    body_hash: bytes


async def begin(connection: Connection, request: KeyedRequest) -> Any | None:  # noqa: ANN401 - what `finish` was given
    """None for the first request with this key, else what the first one finished with.

    Waits while another transaction works on the same key. Raises Conflict when the first had another body.
    """
    if await connection.fetchrow(_SQL.begin, request.tenant_id, request.scope, request.key, request.body_hash):
        return None
    row = await connection.fetchrow(_SQL.find, request.tenant_id, request.scope, request.key)
    if row is None:
        # Retention took it in between: a key that old is free again.
        return await begin(connection, request)
    if row["body_hash"] != request.body_hash:
        raise Conflict(
            "This Idempotency-Key was used with another body. Use a new key for a new request.",
            code="IDEMPOTENCY_CONFLICT",
        )
    return row["response"]


async def finish(connection: Connection, request: KeyedRequest, references: Any) -> None:  # noqa: ANN401 - any JSON
    """Keep where the answer is: ids, never the answer itself, which may hold a secret."""
    await connection.execute(_SQL.finish, request.tenant_id, request.scope, request.key, references)
