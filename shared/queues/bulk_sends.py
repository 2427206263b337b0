"""Cancel and retry many messages by a filter: batches that commit whole, each with jobs, history and events."""

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

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

# A group stays locked for one batch, about 100 ms: its worker's next claim waits no longer than that.
BATCH: Final = 1000
# So many are looked up at a time: enough for most calls, and little to hold.
_ROUND: Final = 20_000
# A call ends within most proxies' timeouts and says that it is not complete; again, it goes on where it stopped.
BUDGET_S: Final = 20.0


@dataclass(frozen=True, slots=True)
class Changed:
    """How many messages were changed. `complete` False: the call's time was up, so call again for the rest."""

    count: int
    complete: bool = True


ChangeBatch = Callable[[Transaction, Sequence[Record]], Awaitable[int]]
Arrange = Callable[[Sequence[Record]], list[Record]]


async def cancel(queues: Queues, meant: Meant, *, budget_s: float = BUDGET_S) -> Changed:
    """Take back every message that is meant and has not left, those due first; what is being sent now is left.

    A crash in the middle leaves each message either cancelled whole or untouched. Calling again is safe.
    """
    return await _each_batch(queues, meant, _cancel, budget_s=budget_s, arrange=_chat_by_chat)


async def retry(queues: Queues, meant: Meant, *, default_ttl_s: int, budget_s: float = BUDGET_S) -> Changed:
    """Send every message that is meant once more, with a new budget of attempts, in the order they were made."""

    async def change(tx: Transaction, rows: Sequence[Record]) -> int:
        return await retry_batch(tx, rows, statuses=meant.statuses, default_ttl_s=default_ttl_s)

    return await _each_batch(queues, meant, change, budget_s=budget_s, arrange=list)


async def _each_batch(
    queues: Queues, meant: Meant, change: ChangeBatch, *, budget_s: float, arrange: Arrange
) -> Changed:
    ends_at = time.monotonic() + budget_s
    count, after = 0, None
    while True:
        async with queues.pool.acquire() as connection:
            rows = await message_bulk.meant(connection, meant, after=after, limit=_ROUND)
        arranged = arrange(rows)
        for start in range(0, len(arranged), BATCH):
            if time.monotonic() >= ends_at:
                return Changed(count, complete=False)
            batch = arranged[start : start + BATCH]
            count += await retry_collisions(lambda: _commit(queues, change, batch))  # noqa: B023 - called now
        if len(rows) < _ROUND:
            return Changed(count)
        after = _place(rows[-1])


async def _commit(queues: Queues, change: ChangeBatch, rows: Sequence[Record]) -> int:
    async with queues.transaction() as tx:
        return await change(tx, rows)


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


async def _cancel(tx: Transaction, rows: Sequence[Record]) -> int:
    await _share_connections(tx, rows)
    ended = await ledger.cancel(tx.connection, pks=[row["job_pk"] for row in rows if row["job_pk"] is not None])
    # A job that runs, or was replaced meanwhile, keeps its message.
    free = [row["id"] for row in rows if row["job_pk"] is None or row["job_pk"] in ended]
    moved, wanted = await message_bulk.move(tx.connection, free, MessageStatus.CANCELED)
    tx.fan_out(*wanted)
    if ended:
        tx.ring(QueueName.MESSAGE_SEND)
    return moved


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
