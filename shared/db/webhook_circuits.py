"""The webhook_circuits table: endpoints whose last tries failed, and when the next of them may be tried.

A worker's finish counts failures and closes what succeeded; the sweep lets an open circuit be tried. Both lock the
endpoint's group first.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from shared.db.pool import Connection
from shared.db.sql import load
from shared.domain.ids import EndpointId

_SQL: Final = load("webhook_circuits")

DISABLE_AFTER_DAYS: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Circuit:
    """How an endpoint fails. `probe_at` None: its next delivery may be tried.

    `failing_since` None: no try failed; it waits because its receiver asked for it, or our own network does not work.
    """

    failures: int
    failing_since: datetime | None
    probe_at: datetime | None


async def strain(
    connection: Connection, endpoint_id: EndpointId, *, failures: int, weight: int, hold_s: float | None = None
) -> bool:
    """Count failed tries, and open the circuit when they weigh 10; True when the endpoint is to be disabled.

    `failures` 0: it was not tried, for a reason of our own. `hold_s`: the receiver asks for so many seconds, and gets
    300 of them at most.
    """
    return bool(await connection.fetchval(_SQL.strain, endpoint_id, failures, weight, DISABLE_AFTER_DAYS, hold_s))


async def close(connection: Connection, endpoint_id: EndpointId) -> None:
    """Let everything be tried again, as if nothing had failed."""
    await connection.execute(_SQL.close, endpoint_id)


async def probe(connection: Connection, endpoint_id: EndpointId) -> None:
    """Let its next delivery be tried now. Ring the queue after the commit."""
    await connection.execute(_SQL.probe, [endpoint_id])


async def probe_due(connection: Connection, *, limit: int = 100) -> bool:
    """Let one delivery be tried of each endpoint whose time has come; True when there is one: ring the queue."""
    due = [row["endpoint_id"] for row in await connection.fetch(_SQL.due, limit)]
    return bool(due) and bool(await connection.fetchval(_SQL.probe, due))


async def of_endpoints(connection: Connection, endpoint_ids: Sequence[EndpointId]) -> dict[EndpointId, Circuit]:
    """The circuits of those that fail."""
    rows = await connection.fetch(_SQL.of_endpoints, endpoint_ids)
    return {
        EndpointId(row["endpoint_id"]): Circuit(
            failures=row["failures"],
            failing_since=row["failing_since"] if row["failures"] else None,
            probe_at=row["probe_at"],
        )
        for row in rows
    }
