"""One of several processes that work one ledger at once, started by `test_processes.py`; it prints what it saw.

Arguments: the database's URL, its number, and how many jobs it makes. It says `ready`, waits for a line, works until no
job is left, and prints one JSON array of events.

Every event has a stamp of the ledger's own sequence of claims, taken while the job's group or order key is locked: so
stamps tell which of two events of one group came first, whatever the processes' clocks say.
"""

import asyncio
import json
import random
import sys
from collections.abc import Sequence
from typing import Any

from shared.db.pool import Connection, connect
from shared.domain.jobs import Job, NewJob, QueueName
from shared.queues.ledger import Finish, FinishKind, claim, enqueue, finish, sweep
from shared.queues.policies import Runtime

QUEUE, LIMITED = QueueName.MESSAGE_RECEIVE, QueueName.MESSAGE_SEND
STAMP = "SELECT nextval('ledger_fences')"
LAPSE = "UPDATE jobs SET lease_until = now() - interval '1 s' WHERE fence = $1"
LEFT = "SELECT count(*) FROM jobs WHERE finished_at IS NULL"
KINDS = {FinishKind.DONE: 84, FinishKind.RETRY: 8, FinishKind.PARK: 8}


class Contender:
    """Makes its share of the jobs and runs whatever it gets."""

    def __init__(self, conn: Connection, *, number: int, count: int) -> None:
        self.conn = conn
        self.rng = random.Random(number)
        self.todo = [self._new_job(f"{number}-{n}", n) for n in range(count)]
        self.events: list[dict[str, Any]] = []
        self.dead: list[Job] = []

    async def work(self) -> None:
        turns = 0
        while self.todo or await self.conn.fetchval(LEFT):
            batch, self.todo = self.todo[:12], self.todo[12:]
            await enqueue(self.conn, batch)
            jobs = await self._claim()
            # Now and then it dies with a job, and speaks again after another has it.
            lost = [job for job in jobs if job.queue is QUEUE and self.rng.random() < 0.03]
            for job in lost:
                await self.conn.execute(LAPSE, job.fence)
                self._saw("lapse", job, stamp=job.fence)
            turns += 1
            if turns % 5 == 0:
                await sweep(self.conn)
            late, self.dead = self.dead, lost
            for ended in (late, [job for job in jobs if job not in lost]):
                await self._finish(ended)

    async def _claim(self) -> list[Job]:
        async with self.conn.transaction():
            # With a Lambda's long lease, so that a busy machine loses no claim that was not meant to be lost.
            slots = {QUEUE: self.rng.randint(1, 10), LIMITED: 3}
            jobs = await claim(self.conn, slots=slots, worker="contender", runtime=Runtime.LAMBDA)
            at = await self.conn.fetchval("SELECT extract(epoch FROM now())::float8")
        for job in jobs:
            self._saw("claim", job, stamp=job.fence, at=at)
        return jobs

    async def _finish(self, jobs: Sequence[Job]) -> None:
        kinds = {job.pk: self._kind(job) for job in jobs}
        async with self.conn.transaction():
            done = await finish(
                self.conn, [Finish(pk=job.pk, fence=job.fence, queue=job.queue, kind=kinds[job.pk]) for job in jobs]
            )
            stamp = await self.conn.fetchval(STAMP)
        for job in jobs:
            self._saw(kinds[job.pk].value if job.pk in done.accepted else "refused", job, stamp=stamp)

    def _saw(self, what: str, job: Job, *, stamp: int, at: float | None = None) -> None:
        event = {"what": what, "stamp": stamp, "at": at, "fence": job.fence, "pk": job.pk}
        self.events.append({**event, "group": job.group, "key": job.order_key})

    def _kind(self, job: Job) -> FinishKind:
        # A park gives its token back: without one, each claim of a limited group is a token.
        if job.queue is LIMITED:
            return self.rng.choice([FinishKind.DONE, FinishKind.DONE, FinishKind.RETRY])
        return self.rng.choices(list(KINDS), list(KINDS.values()))[0]

    def _new_job(self, name: str, n: int) -> NewJob:
        if n % 10 == 0:
            return NewJob(queue=LIMITED, job_id=name, name="test", data={}, group="limited", max_attempts=99)
        group = self.rng.choice([None, *[f"s{n}" for n in range(8)]])
        return NewJob(
            queue=QUEUE,
            job_id=name,
            name="test",
            data={},
            group=group,
            order_key=f"{group}-c{self.rng.randint(0, 3)}" if self.rng.random() < 0.9 else None,
            urgency=self.rng.choice((0, 0, 9)),
            max_attempts=99,
        )


async def main(database_url: str, number: int, count: int) -> None:
    async with connect(database_url) as conn:
        contender = Contender(conn, number=number, count=count)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.readline()
        await contender.work()
    sys.stdout.write(json.dumps(contender.events))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
