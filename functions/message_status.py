"""Move messages forward by the receipts of WhatsApp."""

from collections.abc import Sequence

from functions.resources import Resources
from functions.work import work
from shared.domain.jobs import Job, QueueName
from shared.domain.outcome import Failure, Outcome, Retry


async def handle(jobs: Sequence[Job], _use: Resources) -> Sequence[Outcome]:
    return [Retry(failure=Failure(code="INTERNAL", detail="this queue has no handler yet")) for _ in jobs]


queue = work(QueueName.MESSAGE_STATUS, handle, batch=True)
task, broker, handler = queue.task, queue.broker, queue.handler
