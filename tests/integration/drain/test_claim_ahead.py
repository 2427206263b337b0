"""Claim-ahead through the real drain: quick handlers only, given back when not started, and no rule of a group bent."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from shared.domain.jobs import Job, QueueName
from shared.domain.outcome import Done, Outcome
from shared.queues import ahead, hands
from shared.queues.drain import Drain
from shared.queues.policies import Runtime
from shared.queues.registry import Work
from shared.queues.runtime import Queues
from shared.queues.sweep import sweep
from tests.integration.drain.conftest import drained, enqueue, new_job, states, until

STATUS = QueueName.MESSAGE_STATUS
SLOTS = 2
QUICK = 60


class Gate:
    """A handler that is quick for the first jobs and then waits until the gate opens."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self.ran: list[str] = []

    async def handle(self, job: Job, _use: None) -> Outcome:
        self.ran.append(job.job_id)
        if len(self.ran) > QUICK:
            await self.opened.wait()
        return Done()


class Nobody:
    """A timekeeper whom nobody needs."""

    def soon(self) -> None: ...
    def due_in(self, seconds: float) -> None: ...


@asynccontextmanager
async def stuck_with_jobs_ahead(queues: Queues, gate: Gate, *, grace_s: float) -> AsyncIterator[Drain]:
    """A drain whose slots wait at the gate while it holds jobs that were claimed ahead."""
    await enqueue(queues, *(new_job(n) for n in range(QUICK + 40)))
    drain = Drain(queues, {STATUS: Work(queue=STATUS, handle=gate.handle)}, None, slots={STATUS: SLOTS}, worker="test")
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        group.create_task(drain.run(timekeeper=Nobody(), grace_s=grace_s))
        await until(lambda: len(gate.ran) == QUICK + SLOTS)
        yield drain
        gate.opened.set()
        drain.close()


@pytest.fixture
def waits_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is claimed ahead may wait as long as a test likes."""
    monkeypatch.setattr(ahead, "HOLD_S", 60.0)
    monkeypatch.setattr(hands, "HOLD_S", 1.0)


@pytest.mark.usefixtures("waits_long")
async def test_closing_gives_back_at_once_what_was_claimed_ahead_and_not_started(queues: Queues) -> None:
    gate = Gate()

    async with stuck_with_jobs_ahead(queues, gate, grace_s=15) as drain:
        claimed = drain.held.count()
        drain.close()
        await until(lambda: _has(queues, active=SLOTS))

    assert claimed > SLOTS
    assert len(gate.ran) == QUICK + SLOTS
    assert await states(queues) == {"completed": QUICK + SLOTS, "waiting": 40 - SLOTS}
    assert await queues.pool.fetchval("SELECT max(attempt) FROM jobs WHERE state = 'waiting'") == 0


async def test_what_waits_behind_handlers_that_turned_slow_is_given_back_with_its_attempt(queues: Queues) -> None:
    gate = Gate()

    async with stuck_with_jobs_ahead(queues, gate, grace_s=15) as drain:
        await until(lambda: _has(queues, active=SLOTS))
        held = drain.held.count()

    assert held == SLOTS
    assert await queues.pool.fetchval("SELECT max(attempt) FROM jobs WHERE state = 'waiting'") == 0


async def test_what_turned_stale_unnoticed_is_given_back_by_the_hand_that_finds_it(
    queues: Queues, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hands, "HOLD_S", 60.0)  # no timer tells of it
    monkeypatch.setattr(ahead, "HOLD_S", 0.05)
    ran: list[str] = []

    async def handle(job: Job, _use: None) -> Outcome:
        ran.append(job.job_id)
        if len(ran) == QUICK:
            time.sleep(0.1)  # noqa: ASYNC251 - a handler that blocks
        return Done()

    await enqueue(queues, *(new_job(n) for n in range(QUICK + 20)))
    work = {STATUS: Work(queue=STATUS, handle=handle)}
    # A Lambda's lease is longer than the 60 s.
    drain = Drain(queues, work, None, slots={STATUS: SLOTS}, worker="test", runtime=Runtime.LAMBDA)
    async with asyncio.timeout(20):
        await drain.until_idle()

    assert len(ran) == len(set(ran)) == QUICK + 20


@pytest.mark.usefixtures("waits_long")
async def test_a_claim_that_was_lost_before_its_job_started_never_starts(queues: Queues) -> None:
    gate = Gate()

    async with stuck_with_jobs_ahead(queues, gate, grace_s=15) as drain:
        fences, _ = drain.held.claims()
        lost = max(fences)  # the last that was claimed
        async with queues.pool.acquire() as connection:
            await connection.execute("UPDATE queues SET paused = true")
            await connection.execute("UPDATE jobs SET lease_until = now() - interval '1 s' WHERE pk = $1", lost)
            await sweep(connection)
        drain.lose({lost})
        gate.opened.set()
        await until(lambda: drain.held.count() == 0)

    row = await queues.pool.fetchrow("SELECT job_key, state FROM jobs WHERE pk = $1", lost)
    assert row is not None
    assert row["state"] == "waiting"
    assert row["job_key"] not in gate.ran


async def test_what_is_claimed_ahead_counts_for_the_groups_cap(queues: Queues) -> None:
    busy: list[int] = []

    async def handle(_job: Job, _use: None) -> Outcome:
        busy.append(await queues.pool.fetchval("SELECT max(busy) FROM job_groups"))
        return Done()

    queue = QueueName.SESSION_CLOSE  # one at a time of a group
    await enqueue(queues, *(new_job(n, queue=queue, group=f"s-{n % 12}") for n in range(120)))

    await drained(queues, Work(queue=queue, handle=handle))

    assert max(busy) == 1
    assert await states(queues) == {"completed": 120}


async def test_jobs_of_one_order_key_run_in_order_however_many_are_claimed_ahead(queues: Queues) -> None:
    ran: list[tuple[str | None, int]] = []

    async def handle(job: Job, _use: None) -> Outcome:
        ran.append((job.order_key, job.data["n"]))
        return Done()

    await enqueue(queues, *(new_job(n, order_key=f"chat-{n % 7}") for n in range(210)))

    await drained(queues, Work(queue=STATUS, handle=handle))

    for chat in range(7):
        assert [n for key, n in ran if key == f"chat-{chat}"] == list(range(chat, 210, 7))


@pytest.mark.parametrize("group", [None, "session"])
async def test_a_batch_never_holds_two_jobs_of_one_order_key(queues: Queues, group: str | None) -> None:
    batches: list[list[str | None]] = []

    async def handle(jobs: Sequence[Job], _use: None) -> list[Outcome]:
        batches.append([job.order_key for job in jobs])
        return [Done() for _ in jobs]

    await enqueue(queues, *(new_job(n, group=group, order_key=f"chat-{n // 10}") for n in range(100)))

    await drained(queues, Work(queue=STATUS, handle_batch=handle))

    assert max(len(batch) for batch in batches) > 1
    assert all(len(batch) == len(set(batch)) for batch in batches)
    assert await states(queues) == {"completed": 100}


async def _has(queues: Queues, *, active: int) -> bool:
    return (await states(queues)).get("active") == active
