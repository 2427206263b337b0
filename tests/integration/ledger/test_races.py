"""Two transactions that meet, interleaved by hand: no wake-up is lost, nothing is claimed twice, no order is broken.

Where one must wait for the other, the test sees in pg_locks that it waits before it goes on.
"""

import asyncio
from typing import TYPE_CHECKING

from shared.domain.jobs import QueueName
from shared.queues.ledger import (
    Finish,
    FinishKind,
    Swept,
    claim,
    heartbeat,
    lock,
    next_due_s,
    pause_group,
    resume_group,
    sweep,
)

if TYPE_CHECKING:
    from shared.db.pool import Connection
    from tests.integration.ledger.conftest import Desk

RECEIVE = QueueName.MESSAGE_RECEIVE
SEND = QueueName.MESSAGE_SEND


async def _until_waiting(witness: "Connection", waiter: "Connection") -> None:
    """Return once `waiter`'s statement waits for a lock; only the database knows. TimeoutError when it never does."""
    pid = waiter.get_server_pid()
    async with asyncio.timeout(10):
        while not await witness.fetchval("SELECT cardinality(pg_blocking_pids($1)) > 0", pid):  # noqa: ASYNC110
            await asyncio.sleep(0)


async def test_work_enqueued_while_a_finish_waits_is_claimable_afterwards(desk: "Desk", other: "Connection") -> None:
    """The lost wake-up of a group that a finish finds empty, computed from a snapshot of before its wait."""
    there = type(desk)(other)
    await desk.add("a", queue=SEND, group="s")
    jobs = await desk.claim(queue=SEND)

    async with asyncio.TaskGroup() as tasks, desk.conn.transaction():
        await desk.add("b", queue=SEND, group="s")
        finishing = tasks.create_task(there.end(jobs))
        await _until_waiting(desk.conn, other)
    done = finishing.result()

    assert done.ready == {SEND}
    assert await desk.claimed(queue=SEND) == ["b"]


async def test_a_follower_enqueued_while_its_head_finishes_is_not_blocked_for_ever(
    desk: "Desk", other: "Connection"
) -> None:
    there = type(desk)(other)
    await desk.add("a", group="s", order_key="c")
    jobs = await desk.claim()

    async with asyncio.TaskGroup() as tasks, desk.conn.transaction():
        await desk.end(jobs)
        adding = tasks.create_task(there.add("b", group="s", order_key="c"))
        await _until_waiting(desk.conn, other)

    assert adding.result()[0].state == "waiting"
    assert await desk.claimed() == ["b"]


async def test_a_follower_enqueued_just_before_its_head_finishes_is_freed(desk: "Desk", other: "Connection") -> None:
    there = type(desk)(other)
    await desk.add("a", group="s", order_key="c")
    jobs = await desk.claim()

    async with asyncio.TaskGroup() as tasks, desk.conn.transaction():
        await desk.add("b", group="s", order_key="c")
        finishing = tasks.create_task(there.end(jobs))
        await _until_waiting(desk.conn, other)

    assert finishing.result().ready == {RECEIVE}
    assert await desk.claimed() == ["b"]


async def test_a_resume_before_a_park_leaves_the_job_claimable(desk: "Desk", other: "Connection") -> None:
    there = type(desk)(other)
    await pause_group(desk.conn, SEND, "s", "connection_offline")
    await resume_group(desk.conn, SEND, "s", "connection_offline")
    await desk.add("a", queue=SEND, group="s")
    jobs = await desk.claim(queue=SEND)
    await pause_group(desk.conn, SEND, "s", "connection_offline")

    async with asyncio.TaskGroup() as tasks, desk.conn.transaction():
        # `connected` commits while the worker, which saw the session offline, already parks.
        assert await resume_group(desk.conn, SEND, "s", "connection_offline") is False
        parking = tasks.create_task(there.end(jobs, FinishKind.PARK))
        await _until_waiting(desk.conn, other)

    assert parking.result().ready == {SEND}
    assert await desk.claimed(queue=SEND) == ["a"]


async def test_a_resume_after_a_park_says_that_there_is_work(desk: "Desk", other: "Connection") -> None:
    there = type(desk)(other)
    await desk.add("a", queue=SEND, group="s")
    jobs = await desk.claim(queue=SEND)
    await pause_group(desk.conn, SEND, "s", "connection_offline")

    async with asyncio.TaskGroup() as tasks, other.transaction():
        assert (await there.end(jobs, FinishKind.PARK)).ready == set()
        resuming = tasks.create_task(resume_group(desk.conn, SEND, "s", "connection_offline"))
        await _until_waiting(other, desk.conn)

    assert resuming.result() is True
    assert await desk.claimed(queue=SEND) == ["a"]


async def test_a_job_is_not_claimed_again_from_an_older_snapshot(desk: "Desk", other: "Connection") -> None:
    """The fault of a claim in one statement: it took its snapshot, waited for the group, and chose heads of before."""
    there = type(desk)(other)
    await desk.add("a", "b", group="s", order_key="c")

    async with desk.conn.transaction():
        [first] = await desk.claim()
        assert await there.claim() == []
        assert (await desk.end([first])).accepted
    [second] = await there.claim()

    assert (first.job_id, second.job_id) == ("a", "b")


async def test_a_claim_skips_what_another_holds_and_next_due_says_to_come_back(
    desk: "Desk", other: "Connection"
) -> None:
    await desk.add("a1", "a2", group="a")

    async with desk.conn.transaction():
        await desk.claim(1)
        assert await claim(other, slots={RECEIVE: 5}, worker="w2") == []
        assert await next_due_s(other, [RECEIVE]) == 0

    assert [job.job_id for job in await claim(other, slots={RECEIVE: 5}, worker="w2")] == ["a2"]


async def test_two_enqueues_of_one_new_order_key_without_group_make_one_head(desk: "Desk", other: "Connection") -> None:
    there = type(desk)(other)

    async with asyncio.TaskGroup() as tasks, desk.conn.transaction():
        await desk.add("a", order_key="c")
        adding = tasks.create_task(there.add("b", order_key="c"))
        await _until_waiting(desk.conn, other)

    assert adding.result()[0].state == "blocked"
    assert await desk.claimed() == ["a"]


async def test_a_follower_without_group_enqueued_while_its_head_finishes_is_not_stuck(
    desk: "Desk", other: "Connection"
) -> None:
    there = type(desk)(other)
    await desk.add("a", order_key="c")
    jobs = await desk.claim()

    async with asyncio.TaskGroup() as tasks, desk.conn.transaction():
        await desk.end(jobs)
        tasks.create_task(there.add("b", order_key="c"))
        await _until_waiting(desk.conn, other)

    assert await desk.claimed() == ["b"]


async def test_two_enqueues_of_one_id_make_one_job(desk: "Desk", other: "Connection") -> None:
    there = type(desk)(other)

    async with asyncio.TaskGroup() as tasks, desk.conn.transaction():
        [first] = await desk.add("a")
        adding = tasks.create_task(there.add("a"))
        await _until_waiting(desk.conn, other)

    [second] = adding.result()
    assert (second.deduplicated, second.pk) == (True, first.pk)


async def test_an_id_whose_job_ends_meanwhile_is_free(desk: "Desk", other: "Connection") -> None:
    there = type(desk)(other)
    [first] = await desk.add("a")
    jobs = await desk.claim()

    async with asyncio.TaskGroup() as tasks, desk.conn.transaction():
        await desk.end(jobs)
        adding = tasks.create_task(there.add("a"))
        await _until_waiting(desk.conn, other)

    [second] = adding.result()
    assert second.deduplicated is False
    assert second.pk != first.pk


async def test_a_sweep_waits_for_nobody(desk: "Desk", other: "Connection") -> None:
    await desk.add("held", group="held")
    await desk.add("free", group="free")
    jobs = {job.job_id: job for job in await desk.claim()}
    await desk.elapse(6)

    async with other.transaction():
        assert await lock(other, {jobs["held"].pk: jobs["held"].fence}) == {jobs["held"].pk}
        swept: Swept = await sweep(desk.conn)
        assert swept.ready == {RECEIVE}
        assert (await desk.state("held"), await desk.state("free")) == ("active", "waiting")

        # Its lease has lapsed, but nobody took it back: the commit that was under way counts.
        done = await type(desk)(other).end([jobs["held"]])
        assert done.accepted == {jobs["held"].pk}


async def test_a_heartbeat_waits_for_no_finish_and_does_not_call_its_job_lost(
    desk: "Desk", other: "Connection"
) -> None:
    await desk.add("a", "b", group="s")
    jobs = await desk.claim()

    async with other.transaction():
        await type(desk)(other).end(jobs[:1])
        assert await heartbeat(desk.conn, {job.pk: job.fence for job in jobs}) == set()


async def test_a_claim_that_is_rolled_back_never_happened(desk: "Desk") -> None:
    await desk.add("a", group="s")
    rolled_back = desk.conn.transaction()
    await rolled_back.start()
    [job] = await desk.claim()
    await rolled_back.rollback()

    assert (await desk.end([job])).accepted == set()
    [again] = await desk.claim()
    assert again.fence != job.fence


async def test_finishes_that_lock_many_groups_in_any_order_do_not_deadlock(desk: "Desk", other: "Connection") -> None:
    names = [f"g{n}" for n in range(20)]
    for name in names:
        await desk.add(f"{name}-1", f"{name}-2", group=name)
    jobs = await desk.claim(40)
    there = type(desk)(other)
    ends = [Finish(pk=job.pk, fence=job.fence, queue=RECEIVE, kind=FinishKind.DONE) for job in jobs]
    assert len(ends) == 40

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(desk.end(jobs[::2]))
        tasks.create_task(there.end(jobs[1::2][::-1]))

    assert await desk.conn.fetchval("SELECT count(*) FROM jobs WHERE state = 'completed'") == 40


async def test_batches_with_the_same_ids_in_another_order_do_not_deadlock(desk: "Desk", other: "Connection") -> None:
    there = type(desk)(other)
    for round_ in range(5):
        names = [f"{round_}-{n}" for n in range(200)]

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(desk.add(*names))
            tasks.create_task(there.add(*reversed(names)))

    assert await desk.conn.fetchval("SELECT count(*) FROM jobs") == 1000
