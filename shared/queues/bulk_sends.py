"""Cancel and retry many messages by a filter: batches that commit whole, each with jobs, history and events."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from shared.db import message_bulk
from shared.db.message_bulk import Meant, Place
from shared.db.pool import Record
from shared.db.sql import load
from shared.domain.ids import MessageId
from shared.domain.jobs import QueueName
from shared.domain.message import MessageStatus
from shared.queues import ledger
from shared.queues.accepting import expiry
from shared.queues.policies import POLICIES
from shared.queues.runtime import Queues, Transaction, retry_collisions
from shared.queues.sends import retry_job

_drain: Final = load("drain")
_QUEUE_ID: Final = POLICIES[QueueName.MESSAGE_SEND].id

# Messages stay locked for one batch, about 100 ms, and their group for the end of their jobs, a third of that.
BATCH: Final = 1000
# Batches of cancelled messages side by side, each on a connection of its own: Postgres works on each with one core.
AT_ONCE: Final = 3
# So many are looked up at a time: enough for most calls, and little to hold.
_ROUND: Final = 20_000
# A call ends within most proxies' timeouts and says that it is not complete; again, it goes on where it stopped.
BUDGET_S: Final = 20.0


@dataclass(frozen=True, slots=True)
class Changed:
    """How many messages were changed. `complete` False: the call's time was up, so call again for the rest."""

    count: int
    complete: bool = True


ChangeBatch = Callable[[Sequence[Record]], Awaitable[int]]
Arrange = Callable[[Sequence[Record]], list[Record]]


async def cancel(queues: Queues, meant: Meant, *, budget_s: float = BUDGET_S) -> Changed:
    """Take back every message that is meant and has not left, those due first; what is being sent now is left.

    A crash in the middle leaves each message either cancelled, with history and event, or untouched. A job of a
    cancelled message that it leaves ends when it is claimed, and sends nothing. Calling again is safe.
    """

    async def change(rows: Sequence[Record]) -> int:
        return await _cancel(queues, rows, meant.statuses)

    return await _each_batch(queues, meant, change, budget_s=budget_s, arrange=_chat_by_chat, at_once=AT_ONCE)


async def retry(queues: Queues, meant: Meant, *, default_ttl_s: int, budget_s: float = BUDGET_S) -> Changed:
    """Send every message that is meant once more, with a new budget of attempts, in the order they were made."""

    async def once(rows: Sequence[Record]) -> int:
        async with queues.transaction() as tx:
            return await retry_batch(tx, rows, statuses=meant.statuses, default_ttl_s=default_ttl_s)

    async def change(rows: Sequence[Record]) -> int:
        return await retry_collisions(lambda: once(rows))

    return await _each_batch(queues, meant, change, budget_s=budget_s, arrange=list, at_once=1)


async def _each_batch(
    queues: Queues, meant: Meant, change: ChangeBatch, *, budget_s: float, arrange: Arrange, at_once: int
) -> Changed:
    """Change round after round of those that are meant, in batches begun in order, `at_once` of them at the same time.

    An error ends the call: what has not committed is rolled back.
    """
    ends_at = time.monotonic() + budget_s
    count, after = 0, None
    while True:
        async with queues.pool.acquire() as connection:
            rows = await message_bulk.meant(connection, meant, after=after, limit=_ROUND)
        batches = deque(_batches(arrange(rows)))
        counts = await _side_by_side([_work_off(batches, change, ends_at=ends_at) for _ in range(at_once)])
        count += sum(counts)
        if batches:
            return Changed(count, complete=False)
        if len(rows) < _ROUND:
            return Changed(count)
        after = _place(rows[-1])


def _batches(rows: Sequence[Record]) -> Iterator[Sequence[Record]]:
    return (rows[start : start + BATCH] for start in range(0, len(rows), BATCH))


async def _work_off(batches: deque[Sequence[Record]], change: ChangeBatch, *, ends_at: float) -> int:
    count = 0
    while batches and time.monotonic() < ends_at:
        count += await change(batches.popleft())
    return count


async def _side_by_side(works: Sequence[Coroutine[Any, Any, int]]) -> list[int]:
    """Their results; the first error as it is, once the others have ended."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work) for work in works]
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]


def _chat_by_chat(rows: Sequence[Record]) -> list[Record]:
    """The chats in the order of their first messages, each whole.

    A chat that ends in one batch ends at once; otherwise each batch would let the next of its messages go on, for the
    batch after it to end.
    """
    chats: dict[object, list[Record]] = {}
    for row in rows:
        chat = row["id"] if row["order_key"] is None else (row["connection_id"], row["order_key"])
        chats.setdefault(chat, []).append(row)
    return [row for chat in chats.values() for row in chat]


def _place(row: Record) -> Place:
    return row["created_at"], row["id"]


async def _share_connections(tx: Transaction, rows: Sequence[Record]) -> None:
    # The events' foreign keys lock the connections; in the lock order that comes before their groups.
    await tx.connection.execute(_drain.share_connections, sorted({row["connection_id"] for row in rows}))


async def _cancel(queues: Queues, rows: Sequence[Record], statuses: frozenset[MessageStatus]) -> int:
    """First the messages: no try begins from then on. Then their jobs, for which their group is waited for."""
    moved, jobs = await retry_collisions(lambda: _take_back(queues, rows, statuses))
    if jobs:
        await retry_collisions(lambda: _end_jobs(queues, jobs))
    return moved


async def _take_back(
    queues: Queues, rows: Sequence[Record], statuses: frozenset[MessageStatus]
) -> tuple[int, list[int]]:
    async with queues.transaction() as tx:
        await _share_connections(tx, rows)
        moved, wanted, jobs = await message_bulk.cancel(tx.connection, [row["id"] for row in rows], statuses)
        tx.fan_out(*wanted)
    return moved, jobs


async def _end_jobs(queues: Queues, pks: Sequence[int]) -> None:
    async with queues.transaction() as tx:
        # One that runs by now finds its message cancelled.
        if await ledger.cancel(tx.connection, pks=pks):
            tx.ring(QueueName.MESSAGE_SEND)


async def retry_batch(
    tx: Transaction,
    rows: Sequence[Record],
    *,
    statuses: frozenset[MessageStatus],
    default_ttl_s: int,
    letters: Sequence[int] = (),
) -> int:
    """Retry those of these messages (`id`, `connection_id`) that are still in `statuses`; returns how many.

    Their dead letters are forgotten, as the new jobs take their place, and with them those whose pks are `letters`.
    """
    await _share_connections(tx, rows)
    await message_bulk.lock_groups(tx.connection, _QUEUE_ID, [row["connection_id"] for row in rows])
    found = await message_bulk.retryable(tx.connection, [row["id"] for row in rows], statuses)
    old = [row["job_pk"] for row in found if row["job_pk"] is not None]
    # The jobs that would have tried again end first, so that two never try the same message.
    await ledger.cancel(tx.connection, pks=old, reason="retried")
    await message_bulk.forget_dead(tx.connection, [*old, *letters])
    expires_at = expiry(datetime.now(UTC), default_ttl_s)
    jobs = await tx.enqueue(
        [
            retry_job(
                row["id"],
                row["connection_id"],
                number=row["retries"] + 1,
                order_key=row["order_key"],
                expires_at=expires_at,
            )
            for row in found
        ]
    )
    new = {MessageId(row["id"]): job.pk for row, job in zip(found, jobs, strict=True)}
    begun = await message_bulk.begin_retries(tx.connection, new, expires_at=expires_at, statuses=statuses)
    # A try of theirs began after they were read, and speaks for them.
    await ledger.cancel(
        tx.connection, pks=[pk for id_, pk in new.items() if id_ not in begun], reason="tried meanwhile"
    )
    moved, wanted = await message_bulk.move(tx.connection, [id_ for id_ in new if id_ in begun], MessageStatus.QUEUED)
    tx.fan_out(*wanted)
    tx.ring(QueueName.MESSAGE_SEND)
    return moved
