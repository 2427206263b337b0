"""Move messages forward by what their receipts say: delivered, read, played."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from functions.resources import Resources
from functions.work import work
from shared.db import messages
from shared.domain.ids import ConnectionId, WireId
from shared.domain.jobs import Job, QueueName
from shared.domain.message import MessageStatus
from shared.domain.outcome import Discard, Done, Failure, Outcome
from shared.domain.writes import RecordReceipt
from shared.failpoints import reach
from shared.queues import ledger


async def handle(jobs: Sequence[Job], use: Resources) -> Sequence[Outcome]:
    """Record each receipt, early, late or twice; a message in doubt that one settles frees its chat at once."""
    parsed = [_parse(job) for job in jobs]
    receipts = [one for one in parsed if isinstance(one, RecordReceipt)]
    await _free_chats(receipts, use)
    reach("status_before_record")
    return [
        Done(result={"success": True, "waMessageId": one.wire_id}, writes=(one,))
        if isinstance(one, RecordReceipt)
        else one
        for one in parsed
    ]


async def _free_chats(receipts: Sequence[RecordReceipt], use: Resources) -> None:
    async with use.pool.acquire() as connection:
        held = await messages.held_jobs(connection, [(one.connection_id, one.wire_id) for one in receipts])
    if not held:
        return
    # First the fact, in a commit of its own: the job that is woken must find its message settled.
    async with use.queues.transaction() as tx:
        await tx.apply(receipts)
    async with use.queues.transaction() as tx:
        await ledger.make_due(tx.connection, held)
        tx.ring(QueueName.MESSAGE_SEND)


def _parse(job: Job) -> RecordReceipt | Discard:
    try:
        return _receipt(job.data)
    except (KeyError, TypeError, ValueError) as error:
        failure = Failure(
            code="VALIDATION_ERROR", detail=f"The job's data are wrong ({type(error).__name__}).", retryable=False
        )
        return Discard(reason=failure.detail, failure=failure)


def _receipt(data: Any) -> RecordReceipt:  # noqa: ANN401 - a job's data, judged here
    return RecordReceipt(
        connection_id=ConnectionId(UUID(data["sessionId"])),
        wire_id=WireId(data["waMessageId"]),
        status=MessageStatus(data["status"]),
        at=datetime.fromtimestamp(data["timestamp"] / 1000, UTC),
    )


queue = work(QueueName.MESSAGE_STATUS, handle, batch=True)
task, broker, handler = queue.task, queue.broker, queue.handler
