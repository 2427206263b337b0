"""Dead letters and ended jobs, found and removed on somebody's wish. Callers own the transaction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from shared.db.pool import Connection
from shared.db.sql import load

_SQL = load("job_admin")
_DRAIN = load("drain")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterFilter:
    """Which dead letters are meant; None does not narrow."""

    job_ids: Sequence[str] | None = None
    connection_id: UUID | None = None
    group: str | None = None
    error_code: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A job that failed for good. `place` is where it stands among the dead letters, the oldest first."""

    pk: int
    job_id: str
    name: str
    group: str | None
    data: Mapping[str, Any]
    place: tuple[datetime, int] | None = None


async def dead_letters(
    connection: Connection,
    queue_id: int,
    wanted: DeadLetterFilter,
    *,
    after: tuple[datetime, int] | None,
    limit: int,
) -> list[DeadLetter]:
    """A queue's dead letters that `wanted` means, the oldest first; `after` is the place of the last one seen."""
    rows = await connection.fetch(
        _SQL.dead_letters,
        queue_id,
        wanted.job_ids,
        None if wanted.connection_id is None else str(wanted.connection_id),
        wanted.group,
        wanted.error_code,
        wanted.created_after,
        wanted.created_before,
        *(after or (None, None)),
        limit,
    )
    return [
        DeadLetter(
            pk=row["pk"],
            job_id=row["job_key"],
            name=row["name"],
            group=row["grp"],
            data=row["data"],
            place=(row["finished_at"], row["pk"]),
        )
        for row in rows
    ]


async def remove_ended(connection: Connection, pk: int) -> bool:
    """Forget a job that has ended; False when it has not, or is gone already."""
    return await connection.fetchval(_SQL.remove_ended, pk) is not None


async def share_connection(connection: Connection, connection_id: UUID) -> None:
    """Keep a connection as it is until the transaction ends, as events about it will; nothing if there is none."""
    await connection.execute(_DRAIN.share_connections, [connection_id])
