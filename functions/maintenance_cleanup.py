"""Delete what retention no longer keeps: ended jobs, idempotency keys, messages, events, deliveries and files."""

from collections.abc import Awaitable, Callable
from functools import partial

from functions.resources import Resources
from functions.work import work
from shared.db import media, retention
from shared.db.pool import Connection
from shared.domain.jobs import Job, JobState, QueueName
from shared.domain.outcome import Done, Failure, Outcome, Snooze
from shared.queues import admin
from shared.queues.policies import POLICIES

DeleteBatch = Callable[[Connection], Awaitable[int]]


async def handle(job: Job, use: Resources) -> Outcome:
    """Each batch is a transaction of its own, so a worker that dies half-way has lost nothing but time.

    The job's progress are the rows that are deleted so far.
    """
    deleted: dict[str, int] = {"jobs": 0}
    settings = use.settings
    for queue_name, policy in POLICIES.items():
        for state, age_s, keep in (
            (JobState.COMPLETED, settings.retention_completed_jobs_s, policy.keep_completed),
            (JobState.CANCELLED, settings.retention_completed_jobs_s, 0),
            (JobState.FAILED, settings.retention_failed_jobs_s, 0),
        ):
            clean = partial(admin.clean, queue=queue_name, state=state, older_than_s=age_s, keep=keep)
            deleted["jobs"] += await _delete_all(clean, use)
            job.progress.report(deleted)
    for subject, deletion in retention.deletions(settings).items():
        deleted[subject] = await _delete_all(partial(retention.delete_batch, deletion=deletion), use)
        job.progress.report(deleted)
    deleted["media"] = await _delete_all(_expired_media, use)
    job.progress.report(deleted)
    deleted["media_objects"] = await _sweep_media(use)
    job.progress.report(deleted)
    return Done(result=deleted)


async def _expired_media(connection: Connection) -> int:
    async with connection.transaction():
        return await media.delete_expired(connection, limit=retention.BATCH_ROWS)


async def _sweep_media(use: Resources) -> int:
    """Bytes that nobody refers to any more, after the rows: those of files that just expired are among them."""
    objects = await use.media.tidy()
    while batch := await use.media.sweep():
        objects += batch
    return objects


async def _delete_all(delete_batch: DeleteBatch, use: Resources) -> int:
    rows = 0
    while True:
        async with use.pool.acquire() as connection:
            batch = await delete_batch(connection)
        rows += batch
        if batch == 0:
            return rows


def on_timeout(_failure: Failure) -> Outcome:
    """There was more than one try has time for: the next goes on where this one stopped."""
    return Snooze(delay_s=0.0)


queue = work(QueueName.MAINTENANCE_CLEANUP, handle, on_timeout=on_timeout)
task, broker, handler = queue.task, queue.broker, queue.handler
