"""Make deliveries of new events, and sign and POST one."""

from uuid import UUID

from functions.resources import Resources
from functions.work import work
from shared.domain.ids import ConnectionId, DeliveryId
from shared.domain.jobs import Job, QueueName
from shared.domain.outcome import Discard, Done, Failure, Outcome
from shared.queues.runtime import Queues, retry_collisions
from shared.webhooks.delivery import on_ended
from shared.webhooks.fan_out import FannedOut, fan_out


async def handle(job: Job, use: Resources) -> Outcome:
    """Send one delivery (`deliver-webhook`), or make the deliveries of a session's new events (`fan-out`)."""
    try:
        delivery_id = UUID(job.data["deliveryId"]) if "deliveryId" in job.data else None
        session_id = UUID(job.data["sessionId"]) if job.data.get("sessionId") else None
    except (ValueError, TypeError, AttributeError):
        failure = Failure(code="VALIDATION_ERROR", detail="the job names no delivery and no session", retryable=False)
        return Discard(reason=failure.detail, failure=failure)
    if delivery_id is not None:
        return await use.courier.deliver(job, DeliveryId(delivery_id))
    return await _fan_out_all(use.queues, None if session_id is None else ConnectionId(session_id))


async def _fan_out_all(queues: Queues, connection_id: ConnectionId | None) -> Outcome:
    """Batch after batch, each in a transaction of its own: what is committed when a worker dies stays made."""
    events = deliveries = 0
    while True:
        batch = await retry_collisions(lambda: _fan_out_batch(queues, connection_id))
        events += batch.events
        deliveries += len(batch.jobs)
        if not batch.has_more:
            return Done(result={"events": events, "deliveries": deliveries})


async def _fan_out_batch(queues: Queues, connection_id: ConnectionId | None) -> FannedOut:
    async with queues.transaction() as tx:
        batch = await fan_out(tx.connection, connection_id)
        await tx.enqueue(batch.jobs)
    return batch


queue = work(QueueName.WEBHOOK_DELIVERY, handle, on_ended=on_ended)
task, broker, handler = queue.task, queue.broker, queue.handler
