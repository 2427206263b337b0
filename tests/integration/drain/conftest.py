"""Queues over a fresh database, a registry of handlers made by the test, and drains to run them."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from shared.db.pool import Record
from shared.domain.jobs import NewJob, QueueName
from shared.queues.drain import Drain
from shared.queues.policies import POLICIES
from shared.queues.registry import Work
from shared.queues.runner import Execute
from shared.queues.runtime import Queues
from shared.settings import Settings


@pytest.fixture
def settings(database_url: str) -> Settings:
    """Of one process without Redis; a test that wants Redis copies them with another transport."""
    return Settings(
        database_url=database_url, transport="memory", secret_key="s" * 32, db_pool_size=8, shutdown_grace_s=2
    )


@pytest.fixture
async def queues(settings: Settings) -> AsyncIterator[Queues]:
    async with await Queues.open(settings) as opened:
        yield opened


def new_job(number: int | str = 1, queue: QueueName = QueueName.MESSAGE_STATUS, **fields: object) -> NewJob:
    """A job of a queue without groups, named after its number."""
    return NewJob(queue=queue, job_id=f"job-{number}", name="test", **{"data": {"n": number}, **fields})  # type: ignore[arg-type]  # any field of NewJob


async def enqueue(queues: Queues, *jobs: NewJob) -> None:
    async with queues.transaction() as tx:
        await tx.enqueue(jobs)


async def drained(
    queues: Queues, *works: Work, slots: dict[QueueName, int] | None = None, execute: Execute | None = None
) -> float | None:
    """Run one drain until nothing is claimable and return when something falls due."""
    drain = Drain(
        queues,
        {work.queue: work for work in works},
        None,
        slots=slots or {work.queue: POLICIES[work.queue].concurrency for work in works},
        worker="test",
        execute=execute,
    )
    async with asyncio.timeout(20):
        return await drain.until_idle()


async def job_row(queues: Queues, job_id: str = "job-1") -> Record:
    row = await queues.pool.fetchrow("SELECT * FROM jobs WHERE job_key = $1 ORDER BY pk DESC LIMIT 1", job_id)
    assert row is not None
    return row


async def states(queues: Queues) -> dict[str, int]:
    rows = await queues.pool.fetch("SELECT state, count(*) AS n FROM jobs GROUP BY state")
    return {row["state"]: row["n"] for row in rows}


async def until(fact: Callable[[], Awaitable[bool] | bool], *, within_s: float = 60) -> float:
    """Wait until something is true and return how long it took; fails after `within_s`."""
    began = time.monotonic()
    while time.monotonic() - began < within_s:
        seen = fact()
        if seen if isinstance(seen, bool) else await seen:
            return time.monotonic() - began
        await asyncio.sleep(0.02)
    pytest.fail(f"not true within {within_s} s")
