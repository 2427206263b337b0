"""A connection's line of sends: how many come before a message, and when it is likely to leave."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from shared.db.pool import Connection
from shared.db.sql import load
from shared.domain.ids import ConnectionId
from shared.domain.jobs import JobState, QueueName
from shared.queues.policies import POLICIES

_sql: Final = load("line")

_QUEUE_ID: Final = POLICIES[QueueName.MESSAGE_SEND].id
# A place further back is shown as this one: whoever is told "10000" need not know more.
FURTHEST: Final = 10_000
_MOST_WAITING: Final = 100_000
# Nothing was sent yet that would tell.
_USUAL_SEND_S: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """What lets a connection's sends through. `rate_per_minute` 0: no limit.

    `drawn_s` is how far the bucket of `burst` tokens is drawn on, as the time in which it fills up again.
    """

    now: datetime
    reasons: tuple[str, ...]
    rate_per_minute: int
    burst: int
    cap: int
    busy: int
    drawn_s: float
    duration_s: float

    def passes_at(self, ahead: int) -> datetime | None:
        """When the job with so many before it is likely to start; None while the line is paused.

        The later of two: when the rate has let those before it through, and when those before it are done.
        """
        if self.reasons:
            return None
        by_rate_s = 0.0
        if self.rate_per_minute:
            tokens = self.burst - self.drawn_s * self.rate_per_minute / 60
            by_rate_s = max(0.0, (ahead + 1 - tokens) * 60 / self.rate_per_minute)
        by_work_s = (ahead + self.busy) / self.cap * self.duration_s
        return self.now + timedelta(seconds=max(by_rate_s, by_work_s))


async def gate(connection: Connection, connection_id: ConnectionId) -> Gate:
    """The gate of this connection's sends as it is now."""
    row = await connection.fetchrow(_sql.gate, _QUEUE_ID, str(connection_id))
    assert row is not None, "the queue is there"
    return Gate(
        now=row["now"],
        reasons=tuple(row["reasons"]),
        rate_per_minute=row["rate_per_minute"],
        burst=row["burst"],
        cap=row["cap"],
        busy=row["busy"],
        drawn_s=row["drawn_s"],
        duration_s=_USUAL_SEND_S if row["duration_s"] is None else row["duration_s"],
    )


async def place_of(connection: Connection, message_id: UUID, connection_id: ConnectionId) -> dict[str, Any]:
    """`position`: how many of the connection's messages go before, None for one that does not wait or is not due yet.

    `estimated_send_at`: None also while the connection or the queue is paused. Reads at most `FURTHEST` jobs.
    """
    row = await connection.fetchrow(_sql.place, message_id, FURTHEST)
    if row is None:
        return {"position": None, "estimated_send_at": None}
    at = (await gate(connection, connection_id)).passes_at(row["ahead"] or 0)
    if at is not None and row["state"] == JobState.DELAYED:
        at = max(at, row["run_at"])
    return {"position": row["ahead"], "estimated_send_at": at}


async def sending(connection: Connection, connection_id: ConnectionId) -> dict[str, Any]:
    """The whole line: `waiting` (100000: so many or more), `paused_reasons`, `rate_per_minute`, `estimated_empty_at`.

    The last is when the last one is likely to start: None when none waits or the line is paused. A message that is
    not due yet is none of the line.
    """
    waiting: int = await connection.fetchval(_sql.waiting, connection_id, _MOST_WAITING)
    at = await gate(connection, connection_id)
    return {
        "waiting": min(waiting, _MOST_WAITING),
        "paused_reasons": sorted(at.reasons),
        "rate_per_minute": at.rate_per_minute,
        "estimated_empty_at": at.passes_at(waiting - 1) if waiting else None,
    }
