"""A fresh ledger per test, and a desk to work it from."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared.db.pool import Connection, Pool, Record, connect, open_pool
from shared.domain.jobs import Enqueued, Job, NewJob, QueueName
from shared.queues import ledger as ledger_module
from shared.queues.ledger import Finish, Finished, FinishKind

# The state of the ledger that no sequence of calls may leave: zero rows are right.
BROKEN_COUNTERS = """
SELECT g.queue, g.grp, g.pending, g.busy, c.*
  FROM job_groups g
 CROSS JOIN LATERAL (
   SELECT count(*) FILTER (WHERE j.state = 'waiting') AS waiting, count(*) FILTER (WHERE j.state = 'active') AS active
     FROM jobs j WHERE j.queue = g.queue AND j.grp = g.grp) c
 WHERE g.pending <> c.waiting OR g.busy <> c.active
"""
# What the queues' numbers are made of, beside the rows themselves: zero rows are right.
WRONG_COUNTS = """
SELECT c.queue, c.state, c.grp, sum(c.jobs) AS too_many
  FROM (SELECT queue, state, grp, jobs FROM job_counts UNION ALL SELECT queue, state, grp, jobs FROM job_count_changes
        UNION ALL SELECT queue, state, CASE state WHEN 'blocked' THEN coalesce(grp, '') ELSE '' END, -1 FROM jobs) c
 GROUP BY c.queue, c.state, c.grp
HAVING sum(c.jobs) <> 0
"""
# A blocked job needs a live one before it, or nothing will ever free it.
STUCK = """
SELECT b.job_key FROM jobs b
 WHERE b.state = 'blocked'
   AND NOT EXISTS (SELECT 1 FROM jobs a WHERE a.queue = b.queue AND a.ord = b.ord AND a.grp IS NOT DISTINCT FROM b.grp
                      AND a.state IN ('waiting', 'delayed', 'active') AND a.position < b.position)
"""


@dataclass(frozen=True, slots=True)
class Desk:
    """The ledger through one connection, with defaults for what a test does not care about."""

    conn: Connection

    async def add(
        self,
        *job_ids: str,
        queue: QueueName = QueueName.MESSAGE_RECEIVE,
        in_s: float | None = None,
        **fields: Any,
    ) -> list[Enqueued]:
        run_at = None if in_s is None else datetime.now(UTC) + timedelta(seconds=in_s)
        jobs = [
            NewJob(queue=queue, job_id=job_id, name="test", **{"data": {}, "run_at": run_at, **fields})
            for job_id in job_ids
        ]
        return await ledger_module.enqueue(self.conn, jobs)

    async def claim(self, count: int = 10, *, queue: QueueName = QueueName.MESSAGE_RECEIVE) -> list[Job]:
        return await ledger_module.claim(self.conn, slots={queue: count}, worker="w1")

    async def claimed(self, count: int = 10, *, queue: QueueName = QueueName.MESSAGE_RECEIVE) -> list[str]:
        return [job.job_id for job in await self.claim(count, queue=queue)]

    async def end(self, jobs: Sequence[Job], kind: FinishKind = FinishKind.DONE, delay_s: float = 0.0) -> Finished:
        return await ledger_module.finish(
            self.conn,
            [Finish(pk=job.pk, fence=job.fence, queue=job.queue, kind=kind, delay_s=delay_s) for job in jobs],
        )

    async def row(self, job_id: str) -> Record:
        row = await self.conn.fetchrow("SELECT * FROM jobs WHERE job_key = $1 ORDER BY pk DESC LIMIT 1", job_id)
        assert row is not None
        return row

    async def state(self, job_id: str) -> str:
        return (await self.row(job_id))["state"]

    async def group(self, group: str) -> Record:
        row = await self.conn.fetchrow("SELECT * FROM job_groups WHERE grp = $1", group)
        assert row is not None
        return row

    async def elapse(self, seconds: float) -> None:
        """Let time pass for every job and group, without waiting for it."""
        await self.conn.execute(
            "UPDATE jobs SET run_at = run_at - $1::float8 * interval '1 s', "
            "lease_until = lease_until - $1::float8 * interval '1 s', "
            "expires_at = expires_at - $1::float8 * interval '1 s'",
            seconds,
        )
        await self.conn.execute("UPDATE job_groups SET tat = tat - $1::float8 * interval '1 s'", seconds)

    async def check(self) -> None:
        assert await self.conn.fetch(BROKEN_COUNTERS) == []
        assert await self.conn.fetch(STUCK) == []
        assert await self.conn.fetch(WRONG_COUNTS) == []


@pytest.fixture
async def conn(database_url: str) -> AsyncIterator[Connection]:
    """A connection to this test's own database."""
    async with connect(database_url) as connection:
        yield connection


@pytest.fixture
async def other(database_url: str) -> AsyncIterator[Connection]:
    """A second connection, for two transactions that meet."""
    async with connect(database_url) as connection:
        yield connection


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    """A pool for many workers at once."""
    opened = await open_pool(database_url, max_size=14)
    yield opened
    await opened.close()


@pytest.fixture
async def desk(conn: Connection) -> AsyncIterator[Desk]:
    """The ledger; after the test its counters must be exact and nothing stuck."""
    at = Desk(conn)
    yield at
    await at.check()
