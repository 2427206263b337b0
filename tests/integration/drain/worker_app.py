"""What a `taskiq worker` of these tests runs: handlers that do what their job's data say, and write it down."""

import asyncio
import os
import time

from functions.resources import Resources
from functions.work import work
from shared.domain.jobs import Job, QueueName
from shared.domain.outcome import Done, Outcome
from shared.queues.brokers import broker_of


async def handle(job: Job, use: Resources) -> Outcome:
    """`sleep_s` waits and lets others run; `block_s` holds up the whole loop."""
    await use.pool.execute(
        "INSERT INTO runs (job_id, pid, fence) VALUES ($1, $2, $3)", job.job_id, os.getpid(), job.fence
    )
    await asyncio.sleep(job.data.get("sleep_s", 0))
    time.sleep(job.data.get("block_s", 0))  # noqa: ASYNC251 - the rude handler under test
    return Done(result={"pid": os.getpid()})


status = work(QueueName.MESSAGE_STATUS, handle)
close = work(QueueName.SESSION_CLOSE, handle)
broker = broker_of([status, close])
status_broker = status.broker
