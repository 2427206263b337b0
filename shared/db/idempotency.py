"""Idempotency keys: the first request with a key does the work, every other one gets what the first one made.

The key's row is written in the transaction of the work, so either both are there or neither. It is the first lock that
such a transaction takes, before the product's lock order begins.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from shared.db.pool import Connection, Record
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

    @property
    def name(self) -> tuple[TenantId, str, str]:
        """What tells it from other keys."""
        return self.tenant_id, self.scope, self.key


class Standing(Enum):
    """Of a key that has no answer yet."""

    FIRST = auto()  # this request does the work
    BUSY = auto()  # another transaction is at it


@dataclass(frozen=True, slots=True)
class Before:
    """The first request with this key had the same body; `response` is what it finished with."""

    response: Any


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
        raise _conflict()
    return row["response"]


async def finish(connection: Connection, request: KeyedRequest, references: Any) -> None:  # noqa: ANN401 - any JSON
    """Keep where the answer is: ids, never the answer itself, which may hold a secret."""
    await connection.execute(_SQL.finish, request.tenant_id, request.scope, request.key, references)


async def begin_all(
    connection: Connection, requests: Sequence[KeyedRequest], *, waits: bool
) -> list[Standing | Before | Conflict]:
    """As `begin` for many requests, each of a key of its own: what each is to do, in the same order.

    Without `waits` it is BUSY while another transaction works on the same key.
    """
    ordered = sorted(requests, key=lambda request: (str(request.tenant_id), request.scope, request.key))
    hashes = [request.body_hash for request in ordered]
    new = {_name(row) for row in await connection.fetch(_SQL.begin_all, *_names(ordered), hashes, waits)}
    rest = [request for request in ordered if request.name not in new]
    found = {_name(row): row for row in await connection.fetch(_SQL.find_all, *_names(rest))} if rest else {}
    return [Standing.FIRST if request.name in new else _standing(request, found) for request in requests]


async def finish_all(connection: Connection, references: Sequence[tuple[KeyedRequest, Any]]) -> None:
    """As `finish` for many; a request without references was refused, and its key is free again."""
    if kept := [(request, answer) for request, answer in references if answer is not None]:
        requests = [request for request, _ in kept]
        await connection.execute(_SQL.finish_all, *_names(requests), [answer for _, answer in kept])
    if refused := [request for request, answer in references if answer is None]:
        await connection.execute(_SQL.forget_all, *_names(refused))


def _standing(request: KeyedRequest, found: Mapping[tuple[TenantId, str, str], Record]) -> Standing | Before | Conflict:
    row = found.get(request.name)
    if row is None:
        return Standing.BUSY
    return Before(row["response"]) if row["body_hash"] == request.body_hash else _conflict()


def _name(row: Record) -> tuple[TenantId, str, str]:
    return row["tenant_id"], row["scope"], row["key"]


def _names(requests: Sequence[KeyedRequest]) -> tuple[list[TenantId], list[str], list[str]]:
    return [r.tenant_id for r in requests], [r.scope for r in requests], [r.key for r in requests]


def _conflict() -> Conflict:
    return Conflict(
        "This Idempotency-Key was used with another body. Use a new key for a new request.",
        code="IDEMPOTENCY_CONFLICT",
    )
