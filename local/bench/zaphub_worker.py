"""What the measured `taskiq worker` runs: handlers that sleep as told and write down when."""

# ruff: noqa: TID251 - the bench's own two variables

import asyncio
import os
from pathlib import Path

from functions.resources import Resources
from functions.work import work
from local.bench.recorder import Recorder
from local.bench.zaphub_jobs import QUEUE_OF
from shared.domain.jobs import Job
from shared.domain.outcome import Done, Outcome
from shared.queues.brokers import broker_of

_recorder = Recorder(Path(os.environ.get("BENCH_RECORDS", ".")), is_immediate=bool(os.environ.get("BENCH_IMMEDIATE")))


async def handle(job: Job, _use: Resources) -> Outcome:
    """Do nothing, for as long as the job says."""
    began = _recorder.began(job.data)
    if work_ms := job.data["workMs"]:
        await asyncio.sleep(work_ms / 1000)
    _recorder.ended(job.data, began)
    return Done()


modules = {shape: work(queue, handle) for shape, queue in QUEUE_OF.items()}
broker = broker_of(list(modules.values()))
