"""Ask a session host to open a socket and pair."""

from functions.resources import Resources
from functions.work import work
from shared.domain.jobs import Job, QueueName
from shared.domain.outcome import Failure, Outcome, Retry


async def handle(_job: Job, _use: Resources) -> Outcome:
    return Retry(failure=Failure(code="INTERNAL", detail="this queue has no handler yet"))


queue = work(QueueName.SESSION_INIT, handle)
task, broker, handler = queue.task, queue.broker, queue.handler
