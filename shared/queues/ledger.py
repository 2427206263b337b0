"""The ledger: jobs in Postgres, claimed in batches, finished by the claim that holds them.

Functions take a connection and leave the transaction to the caller, so that a job and what it is about commit
together. They lock groups before jobs; a transaction that also changes other tables keeps the product's lock order
(connections, job_groups, jobs, wire_ids, messages, events). Whoever makes work claimable rings after the commit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from shared.db.pool import Connection, to_json
from shared.db.sql import load
from shared.domain.jobs import Enqueued, Job, JobState, NewJob, QueueName
from shared.queues.groups import pause_group, resume_group, set_group
from shared.queues.policies import POLICIES, QUEUE_OF_ID, Runtime
from shared.queues.sweep import Ended, EndedWhy, Swept, sweep

__all__ = [
    "Ended",
    "EndedWhy",
    "Finish",
    "FinishKind",
    "Finished",
    "Swept",
    "cancel",
    "claim",
    "enqueue",
    "finish",
    "heartbeat",
    "lock",
    "make_due",
    "next_due_s",
    "pause_group",
    "release",
    "resume_group",
    "retry",
    "set_group",
    "sweep",
]

_sql: Final = load("ledger")


class FinishKind(StrEnum):
    """How a claim ends."""

    DONE = "done"
    RETRY = "retry"  # again after `delay_s` in its place, or a dead letter when its attempts are used up
    PARK = "park"  # waits in its place; attempt and rate token given back
    SNOOZE = "snooze"  # again after `delay_s` in its place; attempt and rate token given back
    CANCEL = "cancel"  # rate token given back
    FAIL = "fail"  # a dead letter at once
    UNKNOWN = "unknown"  # again after `delay_s` in its place, even when that is one try more than it has


@dataclass(slots=True, kw_only=True)  # not frozen: one for each job, see Job
class Finish:
    """The end of one claim. `delay_s` 0 makes a retry or snooze claimable at once."""

    pk: int
    fence: int
    queue: QueueName
    kind: FinishKind
    delay_s: float = 0.0
    result: Mapping[str, Any] | None = None
    error: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """What came of a batch of finishes. `accepted` lacks those whose claim had lapsed; `dead` are now dead letters.

    `ready` are the queues where the batch made something claimable, and `next_due_s` the shortest delay that it set.
    """

    accepted: set[int] = field(default_factory=set)
    dead: set[int] = field(default_factory=set)
    ready: set[QueueName] = field(default_factory=set)
    next_due_s: float | None = None


async def enqueue(conn: Connection, jobs: Sequence[NewJob]) -> list[Enqueued]:
    """Make the jobs, in the caller's transaction, and say what became of each, in the same order.

    A job whose id lives already (see Dedupe) is not made: the answer is the living one. Calling again is safe.
    """
    if not jobs:
        return []
    policies = [POLICIES[job.queue] for job in jobs]
    rows = await conn.fetch(
        _sql.enqueue,
        [policy.id for policy in policies],
        [job.job_id for job in jobs],
        [job.dedupe.value for job in jobs],
        [job.name for job in jobs],
        [to_json(dict(job.data)) for job in jobs],
        [p.priority if job.priority is None else job.priority for job, p in zip(jobs, policies, strict=True)],
        [job.urgency for job in jobs],
        [job.group for job in jobs],
        [job.order_key for job in jobs],
        [job.run_at for job in jobs],
        [job.expires_at for job in jobs],
        [
            p.max_attempts if job.max_attempts is None else job.max_attempts
            for job, p in zip(jobs, policies, strict=True)
        ],
    )
    made = {row["job_key"]: row for row in rows}
    if timeouts := {
        made[job.job_id]["pk"]: job.timeout_s
        for job in jobs
        if job.timeout_s is not None and made[job.job_id]["is_new"]
    }:
        await conn.execute(_sql.set_timeouts, list(timeouts), list(timeouts.values()))
    seen: set[str] = set()
    answers = []
    for job in jobs:
        row = made[job.job_id]
        is_first = row["is_new"] and job.job_id not in seen
        seen.add(job.job_id)
        answers.append(
            Enqueued(pk=row["pk"], job_id=job.job_id, state=JobState(row["state"]), deduplicated=not is_first)
        )
    return answers


async def claim(
    conn: Connection, *, slots: Mapping[QueueName, int], worker: str, runtime: Runtime = Runtime.WORKER
) -> list[Job]:
    """Claim at most `slots[q]` jobs of each queue q for `worker`, most urgent queue first. Commit before running them.

    Within a queue the first job of each group comes before the second of any, the group served longest ago first. A
    claim holds for the queue's lease, renewed by `heartbeat`; after that another worker may have the job.
    """
    asked = [(POLICIES[queue], count) for queue, count in slots.items() if count > 0]
    if not asked:
        return []
    rows = await conn.fetch(
        _sql.claim,
        [policy.id for policy, _ in asked],
        [count for _, count in asked],
        [policy.lease_s(runtime) for policy, _ in asked],
        worker,
    )
    return [
        Job(
            pk=row["pk"],
            job_id=row["job_key"],
            queue=QUEUE_OF_ID[row["queue"]],
            name=row["name"],
            data=row["data"],
            attempt=row["attempt"],
            max_attempts=row["max_attempts"],
            stalled=row["stalled"],
            fence=row["fence"],
            group=row["grp"],
            order_key=row["ord"],
            priority=row["priority"],
            created_at=row["created_at"],
            expires_at=row["expires_at"],
            timeout_s=row["timeout_s"],
            is_canceled=row["canceled"],
        )
        for row in rows
    ]


async def finish(conn: Connection, finishes: Sequence[Finish]) -> Finished:
    """End claims; one whose fence no longer holds changes nothing and is missing from `accepted`.

    A park never pauses a group: whoever owns the fact does that. So a parked job of a group that was resumed meanwhile
    is claimable at once, and its queue is in `ready`.
    """
    if not finishes:
        return Finished()
    # Fences only grow: of two claims of one job that end in one batch, the earlier was lost.
    newest = {end.pk: end.fence for end in sorted(finishes, key=lambda end: end.fence)}
    finishes = [end for end in finishes if end.fence == newest[end.pk]]
    row = await conn.fetchrow(
        _sql.finish,
        [end.pk for end in finishes],
        [end.fence for end in finishes],
        [end.kind for end in finishes],
        [end.delay_s for end in finishes],
        [None if end.result is None else dict(end.result) for end in finishes],
        [None if end.error is None else dict(end.error) for end in finishes],
    )
    assert row is not None
    return Finished(
        accepted=set(row["accepted"] or ()),
        dead=set(row["dead"] or ()),
        ready={QUEUE_OF_ID[queue] for queue in row["ready"]},
        next_due_s=row["next_due_s"],
    )


async def lock(conn: Connection, held: Mapping[int, int]) -> set[int]:
    """Lock the groups of these jobs (pk → fence), then the jobs, and return the pks whose claim still holds.

    Until the transaction ends nobody else can finish, reap or cancel them: domain writes made now commit with `finish`.
    """
    if not held:
        return set()
    await conn.execute(_sql.lock_groups, list(held))
    rows = await conn.fetch(_sql.lock_held, list(held), list(held.values()))
    return {row["pk"] for row in rows}


async def heartbeat(
    conn: Connection,
    held: Mapping[int, int],
    *,
    queues: Mapping[int, QueueName] | None = None,
    runtime: Runtime = Runtime.WORKER,
) -> set[int]:
    """Extend the leases of what is held (pk → fence) from now, and return the pks that were lost: stop working on them.

    `queues` (pk → queue) gives each its queue's lease; without it all get the worker's.
    """
    if not held:
        return set()
    fallback = POLICIES[QueueName.MESSAGE_SEND].lease_s(runtime)
    leases = [POLICIES[queues[pk]].lease_s(runtime) if queues else fallback for pk in held]
    return set(await conn.fetchval(_sql.heartbeat, list(held), list(held.values()), leases))


async def release(conn: Connection, held: Mapping[int, int]) -> set[QueueName]:
    """Give back claims (pk → fence) that were not started: attempt and token return. The queues to ring come back."""
    finishes = [
        Finish(pk=pk, fence=fence, queue=QueueName.MESSAGE_SEND, kind=FinishKind.PARK) for pk, fence in held.items()
    ]
    return (await finish(conn, finishes)).ready


async def next_due_s(conn: Connection, queues: Sequence[QueueName]) -> float | None:
    """Seconds until something of these queues is claimable or due: a delay, a token, an expiry. None: never.

    0 means now: claim again, or sweep and then claim. Another's claim may have held what this one skipped.
    """
    return min((due_s for due_s in (await outlook(conn, queues)).values() if due_s is not None), default=None)


async def outlook(conn: Connection, queues: Sequence[QueueName]) -> dict[QueueName, float | None]:
    """As `next_due_s`, for each of these queues."""
    rows = await conn.fetch(_sql.outlook, [POLICIES[queue].id for queue in queues])
    return {QUEUE_OF_ID[row["queue"]]: 0.0 if row["ready"] else row["due_s"] for row in rows}


async def cancel(
    conn: Connection, *, pks: Sequence[int] = (), job_id: str | None = None, reason: str = "canceled on request"
) -> set[int]:
    """End jobs that wait, are blocked or delayed, and return their pks; what is active or has ended is left alone.

    The next of each order key goes on: ring the queue after the commit.
    """
    if job_id is not None:
        pks = [*pks, *await _living(conn, job_id)]
    if not pks:
        return set()
    error = {"code": "CANCELED", "detail": reason, "retryable": False}
    return set(await conn.fetchval(_sql.cancel, list(pks), error))


async def make_due(conn: Connection, pks: Sequence[int]) -> int:
    """Make delayed jobs due now, each in its place, and return how many were delayed. Ring after the commit."""
    return int(await conn.fetchval(_sql.make_due, list(pks)))


async def retry(conn: Connection, pks: Sequence[int]) -> set[int]:
    """Let dead letters run again, with a new budget of attempts and time and a new place; return the pks that do.

    One is left dead while another job of its id lives. Ring the queue after the commit.
    """
    return set(await conn.fetchval(_sql.retry, list(pks)))


async def _living(conn: Connection, job_id: str) -> list[int]:
    return [row["pk"] for row in await conn.fetch(_sql.pk_of_living, job_id)]
