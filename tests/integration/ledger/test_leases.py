"""Claims that lapse: heartbeats, fences, the sweep that takes jobs back, and the job that kills its workers."""

from typing import TYPE_CHECKING

import pytest

from shared.domain.jobs import QueueName
from shared.queues.ledger import EndedWhy, Finish, FinishKind, finish, heartbeat, lock, next_due_s, release, sweep
from shared.queues.policies import Runtime

if TYPE_CHECKING:
    from tests.integration.ledger.conftest import Desk

RECEIVE = QueueName.MESSAGE_RECEIVE
SEND = QueueName.MESSAGE_SEND


async def test_a_lapsed_claim_runs_again_with_its_attempt_counted(desk: "Desk") -> None:
    await desk.add("a", "b", group="s", order_key="c")
    [lost] = await desk.claim()
    await desk.elapse(6)

    swept = await sweep(desk.conn)

    assert swept.ready == {RECEIVE}
    [job] = await desk.claim()
    assert (job.job_id, job.attempt, job.stalled) == ("a", 2, 1)
    assert job.fence != lost.fence


async def test_a_claim_that_holds_is_left_alone(desk: "Desk") -> None:
    await desk.add("a", group="s")
    jobs = await desk.claim()

    await sweep(desk.conn)

    assert (await desk.end(jobs)).accepted == {jobs[0].pk}


async def test_a_worker_whose_claim_lapsed_cannot_finish(desk: "Desk") -> None:
    await desk.add("a", "b", group="s", order_key="c")
    late = await desk.claim()
    await desk.elapse(6)
    await sweep(desk.conn)

    assert (await desk.end(late)).accepted == set()
    new = await desk.claim()
    assert (await desk.end(late, FinishKind.FAIL)).accepted == set()

    assert await desk.state("a") == "active"
    assert (await desk.end(new)).accepted == {new[0].pk}


@pytest.mark.parametrize("is_late_first", [True, False])
async def test_a_claim_counts_beside_a_dead_ones_end_in_the_same_batch(desk: "Desk", *, is_late_first: bool) -> None:
    await desk.add("a", group="s")
    [late] = await desk.claim()
    await desk.elapse(6)
    await sweep(desk.conn)
    [new] = await desk.claim()
    ends = [
        Finish(pk=job.pk, fence=job.fence, queue=RECEIVE, kind=kind)
        for job, kind in ((late, FinishKind.FAIL), (new, FinishKind.DONE))
    ]

    done = await finish(desk.conn, ends if is_late_first else ends[::-1])

    assert done.accepted == {new.pk}
    assert await desk.state("a") == "completed"


async def test_a_fence_is_not_reused_although_a_park_gives_the_attempt_back(desk: "Desk") -> None:
    await desk.add("a", group="s")
    first = await desk.claim()
    await desk.end(first, FinishKind.PARK)
    second = await desk.claim()

    assert first[0].attempt == second[0].attempt == 1
    assert (await desk.end(first)).accepted == set()


async def test_a_heartbeat_keeps_the_claim_and_names_the_lost(desk: "Desk") -> None:
    await desk.add("kept", "lost", group="s")
    kept, lost = await desk.claim()
    await desk.end([lost])
    await desk.elapse(4)

    gone = await heartbeat(desk.conn, {kept.pk: kept.fence, lost.pk: lost.fence})

    assert gone == {lost.pk}
    await desk.elapse(4)
    await sweep(desk.conn)
    assert await desk.state("kept") == "active"


async def test_a_heartbeat_gives_each_queue_its_lease(desk: "Desk") -> None:
    await desk.add("a")
    [job] = await desk.claim()

    await heartbeat(desk.conn, {job.pk: job.fence}, queues={job.pk: RECEIVE}, runtime=Runtime.LAMBDA)

    await desk.elapse(60)
    await sweep(desk.conn)
    assert await desk.state("a") == "active"


async def test_a_poisonous_job_stops_after_its_stalled_limit(desk: "Desk") -> None:
    await desk.add("poison", "next", group="s", order_key="c", data={"message_id": "m"}, max_attempts=99)

    ended = []
    deaths = 0
    while jobs := await desk.claim():
        if jobs[0].job_id == "next":
            await desk.end(jobs)
            break
        deaths += 1
        await desk.elapse(6)
        ended += (await sweep(desk.conn)).ended

    assert deaths == 4
    assert [(e.job_id, e.queue, e.data, e.why) for e in ended] == [
        ("poison", RECEIVE, {"message_id": "m"}, EndedWhy.STALLED)
    ]
    row = await desk.row("poison")
    assert (row["state"], row["error"]["code"]) == ("failed", "STALLED")
    assert await desk.state("next") == "completed"


async def test_released_claims_are_claimable_at_once_and_cost_nothing(desk: "Desk") -> None:
    await desk.add("a", "b", queue=SEND, group="s", order_key="c")
    [job] = await desk.claim(queue=SEND)

    assert await release(desk.conn, {job.pk: job.fence}) == {SEND}

    [again] = await desk.claim(queue=SEND)
    assert (again.job_id, again.attempt, again.stalled) == ("a", 1, 0)


async def test_lock_returns_the_claims_that_hold(desk: "Desk") -> None:
    await desk.add("a", "b", group="s")
    kept, lost = await desk.claim()
    await desk.end([lost])

    async with desk.conn.transaction():
        held = await lock(desk.conn, {kept.pk: kept.fence, lost.pk: lost.fence})
        assert held == {kept.pk}
        assert (await desk.end([kept])).accepted == {kept.pk}


async def test_ungrouped_jobs_are_taken_back_too(desk: "Desk") -> None:
    await desk.add("a")
    await desk.add("b", "c", order_key="k")
    await desk.claim()
    await desk.elapse(6)

    await sweep(desk.conn)

    assert sorted(await desk.claimed()) == ["a", "b"]


async def test_next_due_tells_of_delays_and_of_work_that_is_there(desk: "Desk") -> None:
    assert await next_due_s(desk.conn, [RECEIVE]) is None
    await desk.add("later", in_s=100)
    due_s = await next_due_s(desk.conn, [RECEIVE, SEND])
    assert due_s is not None
    assert 90 < due_s <= 100
    await desk.add("now")
    assert await next_due_s(desk.conn, [RECEIVE]) == 0
    assert await next_due_s(desk.conn, [SEND]) is None


async def test_a_sweep_takes_bounded_batches_and_says_that_it_was_full(desk: "Desk") -> None:
    await desk.add(*[f"a{n}" for n in range(7)], in_s=10)
    await desk.elapse(11)

    full = [(await sweep(desk.conn, limit=3)).is_full for _ in range(3)]

    assert full == [True, True, False]
    assert len(await desk.claim()) == 7
