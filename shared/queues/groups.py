"""Groups of jobs: who pauses, resumes and limits them. Called in the transaction that changes the fact behind it."""

from typing import Final

from shared.db.pool import Connection
from shared.db.sql import load
from shared.domain.jobs import QueueName
from shared.queues.policies import POLICIES

_sql: Final = load("ledger")


async def pause_group(conn: Connection, queue: QueueName, group: str, reason: str) -> None:
    """Add `reason` to why the group is paused; twice is once. What is active goes on, the rest waits in its place."""
    await conn.execute(_sql.pause_group, POLICIES[queue].id, group, reason)


async def resume_group(conn: Connection, queue: QueueName, group: str, reason: str) -> bool:
    """Take `reason` away, and say whether the group has claimable jobs now: then ring the queue after the commit."""
    return bool(await conn.fetchval(_sql.resume_group, POLICIES[queue].id, group, reason))


async def set_group(
    conn: Connection,
    queue: QueueName,
    group: str,
    *,
    cap: int | None = None,
    rate_per_minute: int | None = None,
    burst: int | None = None,
    weight: int | None = None,
) -> None:
    """Set all three limits of a group; None is the queue's own. `rate_per_minute` 0 lifts the limit.

    `weight` is how many jobs the group has in its turn, 1 to 100 and 1 at first; None leaves it as it is.
    """
    await conn.execute(_sql.set_group, POLICIES[queue].id, group, cap, rate_per_minute, burst, weight)
