"""Dead letters that run again, jobs that are taken out, and the rows they are about, moved in the same transaction."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from api.auth import Principal
from api.resources import Resources
from shared.db import job_admin
from shared.db.job_admin import DeadLetter, DeadLetterFilter
from shared.domain.errors import Conflict, NotFound
from shared.domain.ids import DeliveryId, MessageId
from shared.domain.jobs import JobState, NewJob, QueueName
from shared.domain.message import MessageStatus
from shared.domain.webhook import DELIVER, DeliveryStatus, EndDelivery
from shared.domain.writes import MoveMessage
from shared.queues import ledger, sends
from shared.queues.admin import JobView
from shared.queues.policies import POLICIES
from shared.queues.runtime import Transaction

# So many dead letters run again in one transaction: their groups stay locked for its length.
_BATCH: Final = 200


async def dead_letters(
    parts: Resources, caller: Principal, queue: QueueName, wanted: DeadLetterFilter, *, limit: int, dry_run: bool
) -> int:
    """Let the dead letters that `wanted` means run again, at most `limit`; returns how many do, or would."""
    async with parts.queues.pool.acquire() as connection:
        letters = await job_admin.dead_letters(connection, POLICIES[queue].id, wanted, limit=limit)
    if dry_run:
        return len(letters)
    count = 0
    for start in range(0, len(letters), _BATCH):
        async with parts.queues.transaction() as tx:
            count += len(await _again(tx, parts, caller, queue, letters[start : start + _BATCH]))
    return count


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


async def take_out(parts: Resources, wanted: JobView) -> None:
    """Cancel a job that waits, with what it is about, or forget one that has ended. Raises Conflict while it runs."""
    async with parts.queues.transaction() as tx:
        if wanted.finished_at is not None:
            await job_admin.remove_ended(tx.connection, wanted.pk)
            return
        if not await ledger.cancel(tx.connection, pks=[wanted.pk]):
            raise Conflict("The job runs now, or has just ended; only one that waits can be cancelled.")
        tx.ring(wanted.queue)
        if wanted.queue is QueueName.MESSAGE_SEND:
            message = MessageId(UUID(wanted.data["messageDbId"]))
            await tx.apply([MoveMessage(message_id=message, to=MessageStatus.CANCELED)])
        elif wanted.name == DELIVER:
            delivery = DeliveryId(UUID(wanted.data["deliveryId"]))
            await tx.apply(
                [EndDelivery(delivery_id=delivery, after=DeliveryStatus.CANCELED, reason="canceled on request")]
            )


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


async def _run_again(tx: Transaction, queue: QueueName, letters: Sequence[DeadLetter]) -> list[str]:
    run = await ledger.retry(tx.connection, [letter.pk for letter in letters])
    tx.ring(queue)
    return [letter.job_id for letter in letters if letter.pk in run]


async def _send_again(tx: Transaction, parts: Resources, caller: Principal, letter: DeadLetter) -> str | None:
    """Retry the message with a job of its own, which takes the dead one's place; None when that cannot be."""
    try:
        # A savepoint: what one letter cannot do leaves the others as they are.
        async with tx.connection.transaction():
            result = await sends.retry(
                tx,
                UUID(letter.data["messageDbId"]),
                tenant_id=caller.tenant_id,
                allowed=caller.connection_ids,
                default_ttl_s=parts.settings.send_ttl_seconds,
            )
            await job_admin.remove_ended(tx.connection, letter.pk)
    except (NotFound, Conflict):
        return None
    return result.job.job_id if result.job else None


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
