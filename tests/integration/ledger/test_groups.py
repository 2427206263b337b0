"""Fairness, concurrency, rates and pauses of groups, and jobs that have none."""

from typing import TYPE_CHECKING

import pytest

from shared.domain.jobs import QueueName
from shared.queues.ledger import FinishKind, claim, next_due_s, pause_group, resume_group, set_group

if TYPE_CHECKING:
    from tests.integration.ledger.conftest import Desk

RECEIVE = QueueName.MESSAGE_RECEIVE
SEND = QueueName.MESSAGE_SEND
INIT = QueueName.SESSION_INIT


async def test_each_group_gets_one_before_any_gets_two(desk: "Desk") -> None:
    await desk.add("a1", "a2", "a3", group="a")
    await desk.add("b1", group="b")
    await desk.add("c1", "c2", group="c")

    assert await desk.claimed(4) == ["a1", "b1", "c1", "a2"]


async def test_a_group_that_was_served_goes_to_the_back(desk: "Desk") -> None:
    for group in "abc":
        await desk.add(f"{group}1", f"{group}2", group=group)

    served = [await desk.claimed(1) for _ in range(6)]

    assert served == [["a1"], ["b1"], ["c1"], ["a2"], ["b2"], ["c2"]]


async def test_one_busy_group_costs_no_round_trip_per_job(desk: "Desk") -> None:
    await desk.add(*[f"a{n}" for n in range(30)], group="a")

    assert await desk.claimed(30) == [f"a{n}" for n in range(10)]


async def test_no_queue_gets_more_than_its_slots_and_the_urgent_queue_comes_first(desk: "Desk") -> None:
    await desk.add("r1", "r2", "r3", group="s")
    await desk.add("u1", "u2", "u3")
    await desk.add("i1", "i2", queue=INIT)

    jobs = await claim(desk.conn, slots={RECEIVE: 3, INIT: 1, SEND: 5}, worker="w")

    assert [job.job_id for job in jobs[:1]] == ["i1"]
    assert [job.queue for job in jobs] == [INIT, RECEIVE, RECEIVE, RECEIVE]


async def test_jobs_without_a_group_and_groups_share_a_queue(desk: "Desk") -> None:
    await desk.add(*[f"u{n}" for n in range(50)])
    await desk.add(*[f"g{n}" for n in range(5)], group="g")

    one_by_one = {(await desk.claimed(1))[0][0] for _ in range(4)}

    assert one_by_one == {"u", "g"}


async def test_jobs_without_a_group_run_by_priority_then_age(desk: "Desk") -> None:
    await desk.add("a", "b")
    await desk.add("c", urgency=1)

    assert await desk.claimed() == ["c", "a", "b"]


async def test_a_paused_group_waits_until_its_last_reason_is_gone(desk: "Desk") -> None:
    await desk.add("a", queue=SEND, group="s")
    await pause_group(desk.conn, SEND, "s", "connection_paused")
    await pause_group(desk.conn, SEND, "s", "connection_offline")
    await pause_group(desk.conn, SEND, "s", "connection_offline")
    assert await desk.claimed(queue=SEND) == []

    assert await resume_group(desk.conn, SEND, "s", "connection_offline") is False
    assert await desk.claimed(queue=SEND) == []
    assert await resume_group(desk.conn, SEND, "s", "connection_paused") is True

    assert await desk.claimed(queue=SEND) == ["a"]


async def test_a_group_can_be_paused_before_its_first_job(desk: "Desk") -> None:
    await pause_group(desk.conn, SEND, "s", "connection_offline")
    await desk.add("a", queue=SEND, group="s")

    assert await desk.claimed(queue=SEND) == []
    assert await next_due_s(desk.conn, [SEND]) is None
    assert await resume_group(desk.conn, SEND, "s", "connection_offline") is True


async def test_resuming_a_group_without_work_rings_nobody(desk: "Desk") -> None:
    await pause_group(desk.conn, SEND, "s", "connection_offline")

    assert await resume_group(desk.conn, SEND, "s", "connection_offline") is False
    assert await resume_group(desk.conn, SEND, "unheard-of", "connection_offline") is False


async def test_a_paused_queue_keeps_its_work(desk: "Desk") -> None:
    await desk.add("a", group="s")
    await desk.add("b")
    await desk.conn.execute("UPDATE queues SET paused = true WHERE name = 'message:receive'")

    assert await desk.claimed() == []
    assert await next_due_s(desk.conn, [RECEIVE]) is None

    await desk.conn.execute("UPDATE queues SET paused = false")
    assert await next_due_s(desk.conn, [RECEIVE]) == 0
    assert sorted(await desk.claimed()) == ["a", "b"]


async def test_a_rate_lets_its_burst_through_and_then_one_per_interval(desk: "Desk") -> None:
    await set_group(desk.conn, RECEIVE, "s", rate_per_minute=60, burst=3)
    await desk.add(*[f"a{n}" for n in range(9)], group="s")

    assert await desk.claimed() == ["a0", "a1", "a2"]
    assert await desk.claimed() == []
    due_s = await next_due_s(desk.conn, [RECEIVE])
    assert due_s is not None
    assert 0.5 < due_s <= 1
    await desk.elapse(1)
    assert await desk.claimed() == ["a3"]
    await desk.elapse(2)
    assert await desk.claimed() == ["a4", "a5"]
    await desk.elapse(3600)
    assert await desk.claimed(2) == ["a6", "a7"]


async def test_a_token_is_spent_by_a_try_and_given_back_by_a_park(desk: "Desk") -> None:
    await set_group(desk.conn, RECEIVE, "s", rate_per_minute=1, burst=1)
    await desk.add("a", "b", group="s")

    jobs = await desk.claim()
    assert [job.job_id for job in jobs] == ["a"]
    await desk.end(jobs, FinishKind.PARK)
    jobs = await desk.claim()
    assert [job.job_id for job in jobs] == ["a"]
    await desk.end(jobs, FinishKind.RETRY)

    assert await desk.claimed() == []


async def test_a_job_that_ends_cancelled_gives_its_token_back(desk: "Desk") -> None:
    await set_group(desk.conn, RECEIVE, "s", rate_per_minute=1, burst=1)
    await desk.add("a", "b", "c", group="s")

    for job_id, kind in (("a", FinishKind.CANCEL), ("b", FinishKind.FAIL)):
        jobs = await desk.claim()
        assert [job.job_id for job in jobs] == [job_id]
        await desk.end(jobs, kind)

    assert await desk.claimed() == []


@pytest.mark.parametrize("has_ended", [False, True])
async def test_a_token_that_was_refilled_meanwhile_is_not_given_back(desk: "Desk", has_ended: bool) -> None:
    await set_group(desk.conn, RECEIVE, "s", cap=3, rate_per_minute=1, burst=1)
    await desk.add("a", "b", "c", group="s")
    first = await desk.claim()
    await desk.elapse(60)
    second = await desk.claim()
    if has_ended:
        await desk.end(second)

    await desk.end(first, FinishKind.PARK)

    assert [job.job_id for job in (*first, *second)] == ["a", "b"]
    assert await desk.claimed() == []
    await desk.elapse(60)
    assert await desk.claimed() == ["a"]


async def test_parks_one_after_the_other_give_every_token_back(desk: "Desk") -> None:
    await set_group(desk.conn, RECEIVE, "s", rate_per_minute=1, burst=3)
    await desk.add(*[f"a{n}" for n in range(9)], group="s")
    jobs = await desk.claim()

    for job in jobs:
        await desk.end([job], FinishKind.PARK)

    assert await desk.claimed() == ["a0", "a1", "a2"]
    assert await desk.claimed() == []


async def test_a_rate_of_zero_lifts_the_limit_and_none_is_the_queues_own(desk: "Desk") -> None:
    await set_group(desk.conn, SEND, "free", cap=50, rate_per_minute=0)
    await set_group(desk.conn, SEND, "usual", cap=50)
    await desk.add(*[f"f{n}" for n in range(40)], queue=SEND, group="free")
    await desk.add(*[f"u{n}" for n in range(40)], queue=SEND, group="usual")

    names = await desk.claimed(90, queue=SEND)

    assert (sum(n.startswith("f") for n in names), sum(n.startswith("u") for n in names)) == (40, 10)


async def test_limited_and_busy_groups_do_not_fill_the_claim(desk: "Desk") -> None:
    for n in range(10):
        await set_group(desk.conn, SEND, f"limited-{n}", rate_per_minute=1, burst=1)
        await desk.add(f"l{n}a", f"l{n}b", queue=SEND, group=f"limited-{n}")
        await desk.add(f"b{n}a", f"b{n}b", queue=SEND, group=f"busy-{n}")
    jobs = await desk.claim(20, queue=SEND)
    await desk.end([job for job in jobs if job.group and job.group.startswith("limited")])
    await desk.add("free", queue=SEND, group="free")

    assert await desk.claimed(1, queue=SEND) == ["free"]


async def test_send_has_one_in_flight_per_session(desk: "Desk") -> None:
    await desk.add("a", "b", queue=SEND, group="s")

    jobs = await desk.claim(queue=SEND)

    assert [job.job_id for job in jobs] == ["a"]
    assert await desk.claimed(queue=SEND) == []
    assert (await desk.end(jobs)).ready == {SEND}
