"""Makes the bench's jobs through ZapHub's public calls: `task.kiq` one by one, a transaction for each batch."""

from collections.abc import Sequence

import uvloop

from local.bench.producing import Job, from_argument, produce
from local.bench.zaphub_jobs import new_job
from local.bench.zaphub_worker import modules
from shared import log
from shared.queues.runtime import Queues, set_current
from shared.settings import load


async def main() -> None:
    """Produce what the argument orders."""
    order = from_argument()
    settings = load()
    log.configure(level=settings.log_level, fmt=settings.log_format)
    async with await Queues.open(settings) as queues:
        set_current(queues)
        task = modules[order.shape].task

        async def add(job: Job) -> None:
            await task.kiq(**job)

        async def add_many(jobs: Sequence[Job]) -> None:
            async with queues.transaction() as tx:
                await tx.enqueue([new_job(job, order.shape) for job in jobs])

        await produce(order, add, add_many)


if __name__ == "__main__":
    uvloop.run(main())
