"""What an operator does to queues: pause, resume, clean, list, retry dead letters."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from shared.db.pool import Connection, Record
from shared.db.sql import load
from shared.domain.jobs import JobState, QueueName
from shared.queues.ledger import cancel, retry
from shared.queues.policies import POLICIES, QUEUE_OF_ID, QueuePolicy
from shared.queues.running import stop

_sql: Final = load("ledger")

CLEAN_BATCH: Final = 1000  # rows per DELETE: short enough that nobody waits for it


@dataclass(frozen=True, slots=True, kw_only=True)
class JobView:
    """A job as the API shows it: `blocked` is `waiting` outside."""

    pk: int
    id: str
    name: str
    queue: QueueName
    state: JobState
    priority: int
    attempts: int
    max_attempts: int
    run_at: datetime
    data: Mapping[str, Any]
    result: Mapping[str, Any] | None
    error: Mapping[str, Any] | None
    progress: Any
    group: str | None
    created_at: datetime
    finished_at: datetime | None


async def apply_policies(conn: Connection, policies: Mapping[QueueName, QueuePolicy] = POLICIES) -> None:
    """Write the groups' defaults into the ledger, as when a setting changes the rate. Pauses stay as they are."""
    await conn.executemany(
        _sql.apply_policy,
        [(p.id, p.priority, p.group_cap, p.rate_per_minute, p.burst, p.stalled_limit) for p in policies.values()],
    )


async def pause_queue(conn: Connection, queue: QueueName) -> None:
    """Let no job of the queue be claimed; what is active ends, and enqueueing goes on. Twice is once."""
    await conn.execute(_sql.set_paused, [POLICIES[queue].id], True)  # noqa: FBT003 - SQL has no names


async def resume_queue(conn: Connection, queue: QueueName) -> None:
    """Undo `pause_queue`. Ring the queue after the commit."""
    await conn.execute(_sql.set_paused, [POLICIES[queue].id], False)  # noqa: FBT003 - SQL has no names


async def pause_all(conn: Connection) -> None:
    """The emergency stop: pause every queue."""
    await conn.execute(_sql.set_paused, [p.id for p in POLICIES.values()], True)  # noqa: FBT003 - SQL has no names


async def resume_all(conn: Connection) -> None:
    """Resume every queue. Ring all of them after the commit."""
    await conn.execute(_sql.set_paused, [p.id for p in POLICIES.values()], False)  # noqa: FBT003 - SQL has no names


async def clean(
    conn: Connection,
    queue: QueueName,
    state: JobState,
    *,
    older_than_s: float,
    keep: int = 0,
    batch: int = CLEAN_BATCH,
) -> int:
    """Delete one batch of jobs that ended in `state` longer ago than that, and return how many: call until it is 0.

    The `keep` newest stay, however old. Raises ValueError for a state in which a job still lives.
    """
    if state not in {JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED}:
        raise ValueError(f"only jobs that have ended are cleaned, not {state}")
    return len(await conn.fetch(_sql.clean, POLICIES[queue].id, state.value, older_than_s, keep, batch))


async def list_jobs(
    conn: Connection, queue: QueueName, state: JobState, *, limit: int, before_pk: int | None = None
) -> list[JobView]:
    """Jobs in `state`, the newest first; `before_pk` is the last pk of the page before. `waiting` includes blocked."""
    rows = await conn.fetch(_sql.list_jobs, POLICIES[queue].id, _inside(state), before_pk, limit)
    return [_view(row) for row in rows]


async def get_job(conn: Connection, job_id: str) -> JobView | None:
    """The newest job of this readable id, or None."""
    row = await conn.fetchrow(_sql.newest_of_id, job_id)
    return None if row is None else _view(row)


class Cancellation(StrEnum):
    """What `cancel_job` came to."""

    CANCELED = "canceled"  # it had not begun: it has ended
    STOPPING = "stopping"  # it runs: its worker stops it within a heartbeat, and then it is cancelled
    TOO_LATE = "too_late"  # it has ended, or it is a send that is being tried and may have left


async def cancel_job(conn: Connection, pk: int) -> Cancellation:
    """Cancel a job that waits, is delayed or runs. Its domain rows are the caller's to move.

    Ring the queue after the commit: the next of its order key goes on.
    """
    if await cancel(conn, pks=[pk]):
        return Cancellation.CANCELED
    return Cancellation.STOPPING if await stop(conn, [pk]) else Cancellation.TOO_LATE


async def retry_failed(
    conn: Connection, queue: QueueName, *, job_ids: Sequence[str] | None = None, limit: int = 1000
) -> set[int]:
    """Let the queue's dead letters run again, the oldest first, or only those ids; return the pks that do.

    Their domain rows are the caller's to move. Ring the queue after the commit.
    """
    pks = [row["pk"] for row in await conn.fetch(_sql.failed, POLICIES[queue].id, job_ids, limit)]
    return await retry(conn, pks) if pks else set()


def _inside(state: JobState) -> list[str]:
    return ["waiting", "blocked"] if state is JobState.WAITING else [state.value]


def _view(row: Record) -> JobView:
    return JobView(
        pk=row["pk"],
        id=row["job_key"],
        name=row["name"],
        queue=QUEUE_OF_ID[row["queue"]],
        state=JobState.WAITING if row["state"] == "blocked" else JobState(row["state"]),
        priority=row["priority"],
        attempts=row["attempt"],
        max_attempts=row["max_attempts"],
        run_at=row["run_at"],
        data=row["data"],
        result=row["result"],
        error=row["error"],
        progress=row["progress"],
        group=row["grp"],
        created_at=row["created_at"],
        finished_at=row["finished_at"],
    )
