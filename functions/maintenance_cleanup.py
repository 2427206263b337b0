"""Delete what retention no longer keeps: ended jobs, idempotency keys, messages, events and deliveries."""

from functions.resources import Resources
from functions.work import work
from shared.db import retention
from shared.domain.jobs import Job, QueueName
from shared.domain.outcome import Done, Outcome


async def handle(_job: Job, use: Resources) -> Outcome:
    """Each batch is a transaction of its own, so a worker that dies half-way has lost nothing but time."""
    deleted = {}
    for subject, deletion in retention.deletions(use.settings).items():
        rows = 0
        while (batch := await _delete_batch(deletion, use)) == retention.BATCH_ROWS:
            rows += batch
        deleted[subject] = rows + batch
    return Done(result=deleted)


async def _delete_batch(deletion: retention.Deletion, use: Resources) -> int:
    async with use.pool.acquire() as connection:
        return await retention.delete_batch(connection, deletion)


queue = work(QueueName.MAINTENANCE_CLEANUP, handle)
task, broker, handler = queue.task, queue.broker, queue.handler
