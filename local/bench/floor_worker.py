"""The floor: claims of 100 and their finishes in a bare loop, each on a connection of its own."""

# ruff: noqa: TID251 - the bench's own two variables

import asyncio
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import uvloop

from local.bench.recorder import Recorder
from local.bench.zaphub_jobs import QUEUE_OF
from shared.db.pool import connect
from shared.domain.jobs import Job, QueueName
from shared.queues import ledger
from shared.queues.admin import apply_policies
from shared.queues.ledger import Finish, FinishKind
from shared.queues.policies import POLICIES
from shared.settings import load

_BATCH: Final = 100
_IDLE_S: Final = 0.005


async def main() -> None:
    """Work all the bench's queues for ever."""
    recorder = Recorder(Path(os.environ["BENCH_RECORDS"]))
    slots = dict.fromkeys(QUEUE_OF.values(), _BATCH)
    settings = load()
    async with connect(settings.database_url) as claims, connect(settings.database_url) as finishes:
        # What a worker does at its start: the queue's rate is the setting's.
        send = replace(POLICIES[QueueName.MESSAGE_SEND], rate_per_minute=settings.send_rate_per_minute)
        await apply_policies(claims, {QueueName.MESSAGE_SEND: send})
        ended: list[Finish] = []
        while True:
            jobs, _ = await asyncio.gather(
                ledger.claim(claims, slots=slots, worker="floor"), ledger.finish(finishes, ended)
            )
            if not jobs and not ended:
                await asyncio.sleep(_IDLE_S)
            ended = _run(jobs, recorder)


def _run(jobs: Sequence[Job], recorder: Recorder) -> list[Finish]:
    for job in jobs:
        recorder.ended(job.data, recorder.began(job.data))
    return [Finish(pk=job.pk, fence=job.fence, queue=job.queue, kind=FinishKind.DONE) for job in jobs]


if __name__ == "__main__":
    uvloop.run(main())
