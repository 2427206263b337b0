"""The sweep: what no worker does by itself, such as taking back a dead one's jobs. Safe anywhere, at any time."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from shared.db.pool import Connection
from shared.db.sql import load
from shared.domain.jobs import QueueName
from shared.queues.policies import QUEUE_OF_ID

_sql: Final = load("ledger")


class EndedWhy(StrEnum):
    """Why the sweep ended a job."""

    EXPIRED = "expired"
    STALLED = "stalled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A job that the sweep ended: its domain rows are the caller's to move, in the same transaction."""

    pk: int
    job_id: str
    queue: QueueName
    name: str
    data: Mapping[str, Any]
    why: EndedWhy


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """What a sweep did. `ready` are all queues with claimable work, this sweep's or not: ring them.

    `next_due_s` is when the next delay, token or expiry comes up; `is_full` says that there may be more to sweep now.
    """

    ended: list[Ended]
    ready: set[QueueName]
    next_due_s: float | None
    is_full: bool


async def sweep(conn: Connection, *, limit: int = 500) -> Swept:
    """Take back lapsed leases, promote what fell due, end what expired; at most `limit` jobs of each kind and queue.

    A lapsed job waits again with its attempt counted; past the queue's stalled limit it is a dead letter. Sweeps do
    not wait for one another nor for anybody: what is locked is left for the next.
    """
    row = await conn.fetchrow(_sql.sweep, limit)
    assert row is not None
    return Swept(
        ended=[
            Ended(
                pk=one["pk"],
                job_id=one["job_key"],
                queue=QUEUE_OF_ID[one["queue"]],
                name=one["name"],
                data=one["data"],
                why=EndedWhy(one["why"]),
            )
            for one in row["ended"]
        ],
        ready={QUEUE_OF_ID[queue] for queue in row["ready"]},
        next_due_s=row["next_due_s"],
        is_full=row["swept"] >= limit,
    )
