"""Many messages at once: which a filter means, and their change in few statements. Callers own the transaction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from shared.db.pool import Connection, Record
from shared.db.sql import load
from shared.domain.ids import ConnectionId, MessageId, TenantId
from shared.domain.message import MessageStatus

_SQL: Final = load("message_bulk")

# The last message that was seen: its `created_at` and id.
Place = tuple[datetime, UUID]


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageFilter:
    """Which messages are meant; None does not narrow. `metadata` means those that contain it."""

    connection_id: UUID | None = None
    error_code: str | None = None
    jid: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    metadata: Mapping[str, Any] | None = None
    ids: Sequence[UUID] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Meant:
    """A filter as one caller may use it. A connection in one of the `refusing` statuses, or deleted, does not count."""

    tenant_id: TenantId
    allowed: Sequence[ConnectionId] | None
    wanted: MessageFilter
    statuses: frozenset[MessageStatus]
    refusing: frozenset[str] = frozenset()

    def _parameters(self) -> tuple[Any, ...]:
        wanted = self.wanted
        return (
            self.tenant_id,
            self.allowed,
            sorted(self.statuses),
            sorted(self.refusing),
            wanted.connection_id,
            wanted.error_code,
            wanted.jid,
            wanted.created_after,
            wanted.created_before,
            None if wanted.metadata is None else dict(wanted.metadata),
            wanted.ids,
        )


async def meant(connection: Connection, of: Meant, *, after: Place | None, limit: int) -> list[Record]:
    """`id`, `connection_id`, `job_pk`, `created_at`, `order_key`, the oldest first; nothing is locked."""
    return await connection.fetch(_SQL.meant, *of._parameters(), *(after or (None, None)), limit)  # noqa: SLF001 - of this module


async def count_meant(connection: Connection, of: Meant) -> int:
    """How many messages are meant now."""
    count: int = await connection.fetchval(_SQL.count_meant, *of._parameters())  # noqa: SLF001 - of this module
    return count


async def lock_groups(connection: Connection, queue_id: int, connections: Sequence[ConnectionId]) -> None:
    """Let nobody else cancel or retry messages of these connections until the transaction ends."""
    await connection.execute(_SQL.lock_groups, queue_id, sorted(str(one) for one in connections))


async def retryable(
    connection: Connection, ids: Sequence[MessageId], statuses: frozenset[MessageStatus]
) -> list[Record]:
    """`id`, `connection_id`, `job_pk`, `retries`, `order_key` of those in `statuses`, in the order of `ids`."""
    return await connection.fetch(_SQL.retryable, list(ids), sorted(statuses))


async def forget_dead(connection: Connection, pks: Sequence[int]) -> None:
    """Delete those of these jobs that are dead letters."""
    await connection.execute(_SQL.forget_dead, list(pks))


async def begin_retries(
    connection: Connection,
    jobs: Mapping[MessageId, int],
    *,
    expires_at: datetime | None,
    statuses: frozenset[MessageStatus],
) -> set[MessageId]:
    """Give each message (id → its new job's pk) a new budget of attempts; returns those still in `statuses`."""
    rows = await connection.fetch(_SQL.begin_retries, list(jobs), list(jobs.values()), expires_at, sorted(statuses))
    return {row["id"] for row in rows}


async def move(connection: Connection, ids: Sequence[MessageId], to: MessageStatus) -> tuple[int, set[ConnectionId]]:
    """Move messages to canceled or queued, with history and events: how many, and whose events want webhooks."""
    rows = await connection.fetch(_SQL.move, list(ids), to.value)
    return sum(row["moved"] for row in rows), {row["connection_id"] for row in rows if row["wanted"]}


async def cancel(
    connection: Connection, ids: Sequence[MessageId], statuses: frozenset[MessageStatus]
) -> tuple[int, set[ConnectionId], list[int]]:
    """As `move`, to canceled, of those that are in `statuses`; also the pks of their jobs, which are left as they are.

    Locks no group: transactions that share no message go side by side.
    """
    rows = await connection.fetch(_SQL.cancel, list(ids), _stored(statuses))
    moved = sum(row["moved"] for row in rows)
    return moved, {row["connection_id"] for row in rows if row["wanted"]}, [pk for row in rows for pk in row["job_pks"]]


def _stored(statuses: frozenset[MessageStatus]) -> list[MessageStatus]:
    """A scheduled message that fell due is shown as queued."""
    return sorted(statuses | ({MessageStatus.SCHEDULED} if MessageStatus.QUEUED in statuses else set()))
