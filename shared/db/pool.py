"""The connection pool: how a process reaches Postgres, and what it raises when it cannot."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from shared.domain.errors import Misconfigured, Unavailable

# Queries take either: a connection of the pool or one opened by itself. Only the stubs make these classes generic.
if TYPE_CHECKING:
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]
    Pool: TypeAlias = asyncpg.Pool[asyncpg.Record]
else:
    Connection = asyncpg.Connection | PoolConnectionProxy
    Pool = asyncpg.Pool
Record = asyncpg.Record
DatabaseError = asyncpg.PostgresError

# What asyncpg raises when the server is away, restarting or full; calling again later may help.
AWAY = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    # What its client trips over when the server ends a connection at the moment that a query begins.
    asyncpg.InternalClientError,
)
# A wrong user, password or database name: it stays so until somebody changes it.
_REFUSED = (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError)
# Two transactions met; the same transaction, run again, goes through.
COLLISION = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)
# Another row has a value that only one may have; the transaction can only end.
TAKEN = asyncpg.UniqueViolationError

CONNECT_TIMEOUT_S = 5.0
COMMAND_TIMEOUT_S = 30.0
ACQUIRE_TIMEOUT_S = 30.0


async def _prepare(connection: Connection) -> None:
    for name in ("json", "jsonb"):
        await connection.set_type_codec(name, encoder=to_json, decoder=json.loads, schema="pg_catalog")


# NaN and Infinity are not JSON, and Postgres would refuse them with a vaguer message.
_json: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


@dataclass(frozen=True, slots=True)
class JsonList:
    """A list as one element of a `jsonb[]`: by itself asyncpg takes a list within a list for one more dimension."""

    values: Sequence[Any]


def to_json(value: Any) -> str:  # noqa: ANN401 - JSON is any of six types
    """The text that Postgres gets of a value. Raises ValueError or TypeError for what is no JSON.

    asyncpg calls it by itself, except for a parameter `$1::text[]::jsonb[]`: where much is written at once, that costs
    half of `$1::jsonb[]`, which it sends as one text with every quote escaped.
    """
    if isinstance(value, JsonList):
        value = list(value.values)
    return _json(value)


class _BoundedPool(Pool):
    """asyncpg's pool, in which nobody waits for ever: `acquire` by itself has no timeout."""

    patience_s = ACQUIRE_TIMEOUT_S

    def acquire(self, *, timeout: float | None = None) -> "asyncpg.pool.PoolAcquireContext[Record]":
        """Raises TimeoutError, one of AWAY. What was acquired has as long to be given back, or is broken off."""
        return super().acquire(timeout=self.patience_s if timeout is None else timeout)


async def open_pool(
    database_url: str,
    *,
    max_size: int,
    min_size: int = 1,
    transaction_pooler: bool = False,
    command_timeout_s: float = COMMAND_TIMEOUT_S,
    acquire_timeout_s: float = ACQUIRE_TIMEOUT_S,
) -> Pool:
    """Open a pool of at most `max_size` connections.

    `transaction_pooler` makes asyncpg fit RDS Proxy or PgBouncer in transaction mode: no prepared statement outlives
    its transaction, so none is cached. A statement ends within twice `command_timeout_s`, as its cancellation may take
    as long. Raises Unavailable when Postgres does not answer; calling again is safe. Raises Misconfigured for a wrong
    user, password or database.
    """
    # What create_pool does, with our class.
    pool = _BoundedPool(
        database_url,
        min_size=min(min_size, max_size),
        max_size=max_size,
        max_queries=50_000,
        max_inactive_connection_lifetime=300.0,
        loop=None,
        connection_class=asyncpg.Connection,
        record_class=Record,
        timeout=CONNECT_TIMEOUT_S,
        command_timeout=command_timeout_s,
        statement_cache_size=0 if transaction_pooler else 200,
        init=_prepare,
        reset=_leave_as_is,
    )
    pool.patience_s = acquire_timeout_s
    try:
        await pool
    except AWAY as error:
        raise Unavailable("Postgres does not answer; check ZAPHUB_DATABASE_URL and that the server runs.") from error
    except _REFUSED as error:
        raise Misconfigured(f"Postgres refuses ZAPHUB_DATABASE_URL: {error}.") from error
    return pool


async def _leave_as_is(_: Connection) -> None:
    """In place of asyncpg's RESET ALL, a round trip: no statement of ours leaves anything behind in its connection."""


@asynccontextmanager
async def connect(database_url: str) -> AsyncIterator[Connection]:
    """One connection for a short job (a migration, a key), closed at the end. Raises as `open_pool` does."""
    try:
        connection = await asyncpg.connect(database_url, timeout=CONNECT_TIMEOUT_S, command_timeout=300)
    except AWAY as error:
        raise Unavailable("Postgres does not answer; check ZAPHUB_DATABASE_URL and that the server runs.") from error
    except _REFUSED as error:
        raise Misconfigured(f"Postgres refuses ZAPHUB_DATABASE_URL: {error}.") from error
    try:
        await _prepare(connection)
        yield connection
    finally:
        await connection.close(timeout=CONNECT_TIMEOUT_S)
