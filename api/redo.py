"""Dead letters that run again, jobs that are taken out, and the rows they are about, moved in the same transaction."""

import sys
import time
from collections.abc import Sequence
from typing import Final
from uuid import UUID

from api.auth import Principal
from api.resources import Resources
from shared.db import job_admin, message_bulk
from shared.db.job_admin import DeadLetter, DeadLetterFilter
from shared.db.message_bulk import Meant, MessageFilter
from shared.domain.errors import Conflict, NotFound
from shared.domain.ids import DeliveryId, MessageId
from shared.domain.jobs import JobState, NewJob, QueueName
from shared.domain.message import RETRYABLE, MessageStatus
from shared.domain.session import REFUSES_SENDS
from shared.domain.webhook import DELIVER, DeliveryStatus, EndDelivery
from shared.domain.writes import MoveMessage
from shared.queues import admin, bulk_sends, ledger, sends
from shared.queues.admin import Cancellation, JobView
from shared.queues.bulk_sends import BUDGET_S, Changed
from shared.queues.policies import POLICIES
from shared.queues.runtime import Transaction, retry_collisions

# So many dead letters run again in one transaction: their groups stay locked for its length.
_BATCH: Final = 500


async def dead_letters(
    parts: Resources,
    caller: Principal,
    queue: QueueName,
    wanted: DeadLetterFilter,
    *,
    limit: int | None,
    dry_run: bool,
) -> Changed:
    """Let the dead letters that `wanted` means run again, at most `limit`: how many do, or would.

    Batches commit one by one, the oldest letters first. A message in doubt is sent again only when its job is named.
    """
    ends_at = time.monotonic() + BUDGET_S
    count, after = 0, None
    left = sys.maxsize if limit is None else limit
    while left:
        if time.monotonic() >= ends_at:
            return Changed(count, complete=False)
        batch = min(left, _BATCH)
        async with parts.queues.pool.acquire() as connection:
            letters = await job_admin.dead_letters(connection, POLICIES[queue].id, wanted, after=after, limit=batch)
        may_double = wanted.job_ids is not None
        if dry_run:
            count += await _would(parts, caller, queue, letters, may_double=may_double)
        else:
            count += await retry_collisions(
                lambda: _run_batch(parts, caller, queue, letters, may_double=may_double)  # noqa: B023 - called now
            )
        if len(letters) < batch:
            break
        left -= batch
        after = letters[-1].place
    return Changed(count)


async def job(parts: Resources, caller: Principal, dead: JobView) -> str:
    """Let one dead letter run again and return the id of the job that does. Raises Conflict when it is none."""
    if dead.state is not JobState.FAILED:
        raise Conflict(f"The job is {dead.state}; only a failed one can be retried.")
    async with parts.queues.transaction() as tx:
        letter = DeadLetter(pk=dead.pk, job_id=dead.id, name=dead.name, group=dead.group, data=dead.data)
        runs = await _again(tx, parts, caller, dead.queue, [letter])
        if not runs:
            raise Conflict("The job was retried meanwhile, or what it is about has moved on.")
    return runs[0]


async def take_out(parts: Resources, wanted: JobView) -> Cancellation:
    """Cancel a job that waits or runs, with what it is about, or forget one that has ended.

    Raises Conflict for a send that runs, as the message may have left, and for a job that ends in this moment.
    """
    async with parts.queues.transaction() as tx:
        if wanted.finished_at is not None:
            await job_admin.remove_ended(tx.connection, wanted.pk)
            return Cancellation.CANCELED
        if session := _uuid(wanted.data.get("sessionId")):
            # The event's foreign key locks the connection; in the lock order that comes before its group.
            await job_admin.share_connection(tx.connection, session)
        cancellation = await admin.cancel_job(tx.connection, wanted.pk)
        if cancellation is Cancellation.TOO_LATE:
            raise Conflict("The job has just ended, or it is sending a message, which may have left already.")
        tx.ring(wanted.queue)
        message, delivery = _uuid(wanted.data.get("messageDbId")), _uuid(wanted.data.get("deliveryId"))
        if wanted.queue is QueueName.MESSAGE_SEND and message:
            await tx.apply([MoveMessage(message_id=MessageId(message), to=MessageStatus.CANCELED)])
        elif wanted.name == DELIVER and delivery:
            end = EndDelivery(
                delivery_id=DeliveryId(delivery), after=DeliveryStatus.CANCELED, reason="canceled on request"
            )
            await tx.apply([end])
    return cancellation


async def _again(
    tx: Transaction, parts: Resources, caller: Principal, queue: QueueName, letters: Sequence[DeadLetter]
) -> list[str]:
    """The ids of the jobs that run in place of these, without those whose object has moved on."""
    match queue:
        case QueueName.MESSAGE_SEND:
            return [job for letter in letters if (job := await _send_again(tx, parts, caller, letter))]
        case QueueName.WEBHOOK_DELIVERY:
            return await _deliver_again(tx, letters)
        case _:
            return await _run_again(tx, queue, letters)


async def _run_batch(
    parts: Resources, caller: Principal, queue: QueueName, letters: Sequence[DeadLetter], *, may_double: bool
) -> int:
    async with parts.queues.transaction() as tx:
        if queue is not QueueName.MESSAGE_SEND:
            return len(await _again(tx, parts, caller, queue, letters))
        meant = _messages_of(caller, letters, may_double=may_double)
        rows = await message_bulk.meant(tx.connection, meant, after=None, limit=len(letters))
        found = {str(row["id"]) for row in rows}
        return await bulk_sends.retry_batch(
            tx,
            rows,
            statuses=meant.statuses,
            default_ttl_s=parts.settings.send_ttl_seconds,
            letters=[letter.pk for letter in letters if letter.data.get("messageDbId") in found],
        )


async def _would(
    parts: Resources, caller: Principal, queue: QueueName, letters: Sequence[DeadLetter], *, may_double: bool
) -> int:
    if queue is not QueueName.MESSAGE_SEND:
        return len(letters)
    async with parts.queues.pool.acquire() as connection:
        return await message_bulk.count_meant(connection, _messages_of(caller, letters, may_double=may_double))


def _messages_of(caller: Principal, letters: Sequence[DeadLetter], *, may_double: bool) -> Meant:
    """The messages of these letters that may be sent again."""
    return Meant(
        tenant_id=caller.tenant_id,
        allowed=caller.connection_ids,
        wanted=MessageFilter(ids=[id_ for letter in letters if (id_ := _uuid(letter.data.get("messageDbId")))]),
        statuses=RETRYABLE if may_double else RETRYABLE - {MessageStatus.UNKNOWN},
        refusing=frozenset(REFUSES_SENDS),
    )


def _uuid(text: object) -> UUID | None:
    """What a job's data name; whoever enqueued them may have written anything."""
    try:
        return UUID(str(text))
    except ValueError:
        return None


async def _run_again(tx: Transaction, queue: QueueName, letters: Sequence[DeadLetter]) -> list[str]:
    run = await ledger.retry(tx.connection, [letter.pk for letter in letters])
    tx.ring(queue)
    return [letter.job_id for letter in letters if letter.pk in run]


async def _send_again(tx: Transaction, parts: Resources, caller: Principal, letter: DeadLetter) -> str | None:
    """Retry the message with a job of its own, which takes the dead one's place; None when that cannot be."""
    message_id = _uuid(letter.data.get("messageDbId"))
    if message_id is None:
        return None
    try:
        # A savepoint: what one letter cannot do leaves the others as they are.
        async with tx.connection.transaction():
            result = await sends.retry(
                tx,
                message_id,
                tenant_id=caller.tenant_id,
                allowed=caller.connection_ids,
                default_ttl_s=parts.settings.send_ttl_seconds,
            )
            await job_admin.remove_ended(tx.connection, letter.pk)
    except (NotFound, Conflict):
        return None
    return result.job.job_id


async def _deliver_again(tx: Transaction, letters: Sequence[DeadLetter]) -> list[str]:
    """A delivery that was given up is sent again only by a job that says so, which takes the dead one's place."""
    deliveries = [letter for letter in letters if letter.name == DELIVER]
    others = [letter for letter in letters if letter.name != DELIVER]
    made = await tx.enqueue(
        [
            NewJob(
                queue=QueueName.WEBHOOK_DELIVERY,
                job_id=letter.job_id,
                name=DELIVER,
                data={**letter.data, "again": True},
                group=letter.group,
            )
            for letter in deliveries
        ]
    )
    for letter in deliveries:
        await job_admin.remove_ended(tx.connection, letter.pk)
    run = [one.job_id for one in made if not one.deduplicated]
    return run + (await _run_again(tx, QueueName.WEBHOOK_DELIVERY, others) if others else [])
