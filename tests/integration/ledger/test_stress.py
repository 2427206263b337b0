"""Many workers, producers and sweepers at once, with every outcome: then the books are checked."""

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from shared.domain.jobs import Job, NewJob, QueueName
from shared.queues.ledger import Finish, FinishKind, claim, enqueue, finish, pause_group, resume_group, set_group, sweep

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from tests.integration.ledger.conftest import Desk

QUEUE = QueueName.MESSAGE_RECEIVE
JOBS = 1200
KINDS = {
    FinishKind.DONE: 76,
    FinishKind.FAIL: 4,
    FinishKind.CANCEL: 2,
    FinishKind.RETRY: 8,
    FinishKind.PARK: 5,
    FinishKind.SNOOZE: 3,
    FinishKind.UNKNOWN: 2,
}

# Within an order key, what ran for good ran in the order of its places.
OUT_OF_ORDER = """
SELECT count(*) FROM (
  SELECT finished_at, lag(finished_at) OVER (PARTITION BY grp, ord ORDER BY position) AS before
    FROM jobs WHERE ord IS NOT NULL AND position IS NOT NULL) x
 WHERE before > finished_at
"""


@dataclass
class Books:
    """What the workers saw."""

    rng: random.Random
    made: int = 0
    running: set[int] = field(default_factory=set)
    running_keys: Counter[tuple[str | None, str]] = field(default_factory=Counter)
    fences: set[int] = field(default_factory=set)
    faults: list[str] = field(default_factory=list)
    is_over: bool = False

    def start(self, job: Job) -> None:
        if job.fence in self.fences:
            self.faults.append(f"fence {job.fence} was given twice")
        if job.pk in self.running:
            self.faults.append(f"job {job.pk} runs twice")
        self.fences.add(job.fence)
        self.running.add(job.pk)
        if job.order_key is not None:
            key = (job.group, job.order_key)
            self.running_keys[key] += 1
            if self.running_keys[key] > 1:
                self.faults.append(f"two of order key {key} run")

    def stop(self, job: Job) -> None:
        self.running.discard(job.pk)
        if job.order_key is not None:
            self.running_keys[(job.group, job.order_key)] -= 1


def _new_job(rng: random.Random, number: int) -> NewJob:
    group = rng.choice([None, *[f"s{n}" for n in range(9)]])
    return NewJob(
        queue=QUEUE,
        job_id=f"job-{number}",
        name="stress",
        data={},
        group=group,
        order_key=f"{group}-c{rng.randint(0, 4)}" if rng.random() < 0.9 else None,
        urgency=rng.choice((0, 5, 9)),
        max_attempts=50,
    )


async def _produce(pool: "Pool", books: Books) -> None:
    while books.made < JOBS:
        numbers = range(books.made, books.made + books.rng.randint(1, 20))
        books.made = numbers.stop
        jobs = [_new_job(books.rng, number) for number in numbers]
        async with pool.acquire() as conn, conn.transaction():
            await enqueue(conn, jobs)


async def _work(pool: "Pool", books: Books) -> None:
    kinds, weights = list(KINDS), list(KINDS.values())
    while not books.is_over:
        async with pool.acquire() as conn:
            jobs = await claim(conn, slots={QUEUE: books.rng.randint(1, 10)}, worker="w")
        for job in jobs:
            books.start(job)
        await asyncio.sleep(0)
        for job in jobs:
            books.stop(job)
        ends = [
            Finish(pk=job.pk, fence=job.fence, queue=QUEUE, kind=books.rng.choices(kinds, weights)[0], delay_s=0.005)
            for job in jobs
        ]
        async with pool.acquire() as conn:
            done = await finish(conn, ends)
        if len(done.accepted) != len(jobs):
            books.faults.append("a finish was refused")


async def _sweep(pool: "Pool", books: Books) -> None:
    while not books.is_over:
        async with pool.acquire() as conn:
            await sweep(conn, limit=50)


async def _pause_and_resume(pool: "Pool", books: Books) -> None:
    while not books.is_over:
        group = f"s{books.rng.randint(0, 8)}"
        async with pool.acquire() as conn:
            await pause_group(conn, QUEUE, group, "connection_offline")
        await asyncio.sleep(0)
        async with pool.acquire() as conn:
            await resume_group(conn, QUEUE, group, "connection_offline")


@pytest.mark.parametrize("seed", [1, 2])
async def test_nothing_is_lost_doubled_or_out_of_order_under_stress(desk: "Desk", pool: "Pool", seed: int) -> None:
    books = Books(random.Random(seed))
    for group, cap in (("s0", 1), ("s1", 2), ("s2", 3)):
        await set_group(desk.conn, QUEUE, group, cap=cap)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(5):
            tasks.create_task(_work(pool, books))
        for _ in range(2):
            tasks.create_task(_sweep(pool, books))
        tasks.create_task(_pause_and_resume(pool, books))
        async with asyncio.TaskGroup() as producers:
            for _ in range(3):
                producers.create_task(_produce(pool, books))
        unfinished = "SELECT count(*) FROM jobs WHERE finished_at IS NULL"
        while await desk.conn.fetchval(unfinished) and not books.faults:  # noqa: ASYNC110 - the database says when
            await asyncio.sleep(0)
        books.is_over = True

    assert books.faults == []
    assert await desk.conn.fetchval("SELECT count(*) FROM jobs") == books.made
    assert await desk.conn.fetchval(OUT_OF_ORDER) == 0
    await desk.check()
