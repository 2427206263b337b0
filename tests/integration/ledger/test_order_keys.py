"""Strict order within a chat, and no chat that holds back another. The four faults of the first design are here."""

from typing import TYPE_CHECKING

from shared.domain.jobs import QueueName
from shared.queues.ledger import FinishKind, cancel, make_due, retry, set_group, sweep

if TYPE_CHECKING:
    from tests.integration.ledger.conftest import Desk

RECEIVE = QueueName.MESSAGE_RECEIVE


async def test_a_chat_has_one_in_flight_and_runs_in_order(desk: "Desk") -> None:
    await desk.add("a", "b", "c", group="s", order_key="chat")

    order = []
    while jobs := await desk.claim():
        assert len(jobs) == 1
        order.append(jobs[0].job_id)
        await desk.end(jobs)

    assert order == ["a", "b", "c"]


async def test_priority_orders_chats_and_never_the_messages_of_one(desk: "Desk") -> None:
    await desk.add("a1", group="s", order_key="a", priority=1)
    await desk.add("a2", group="s", order_key="a", priority=9)
    await desk.add("b1", group="s", order_key="b", priority=5)

    assert await desk.claimed() == ["b1", "a1"]


async def test_urgency_orders_jobs_of_one_priority(desk: "Desk") -> None:
    await desk.add("calm", group="s")
    await desk.add("urgent", group="s", urgency=9)

    assert await desk.claimed() == ["urgent", "calm"]


async def test_a_retrying_head_holds_back_only_its_own_chat(desk: "Desk") -> None:
    await desk.add("a1", "a2", group="s", order_key="a")
    await desk.end(await desk.claim(), FinishKind.RETRY, 60)
    await desk.add("b1", group="s", order_key="b")

    assert await desk.claimed() == ["b1"]


async def test_groups_whose_heads_are_blocked_do_not_fill_the_claim(desk: "Desk") -> None:
    for n in range(20):
        await desk.add(f"head-{n}", f"tail-{n}", group=f"s{n}", order_key=f"c{n}")
    heads = await desk.claim(20)
    assert len(heads) == 20
    await desk.add("free", group="z")

    assert await desk.claimed(1) == ["free"]


async def test_a_job_due_tomorrow_does_not_block_its_chat(desk: "Desk") -> None:
    await desk.add("tomorrow", group="s", order_key="c", in_s=86400)
    await desk.add("today", group="s", order_key="c")

    assert await desk.claimed() == ["today"]


async def test_a_scheduled_job_takes_its_place_when_it_falls_due(desk: "Desk") -> None:
    await desk.add("scheduled", group="s", order_key="c", in_s=100)
    await desk.add("now", "later", group="s", order_key="c")
    await desk.elapse(101)
    await sweep(desk.conn)
    assert await desk.state("scheduled") == "blocked"
    await desk.add("last", group="s", order_key="c")

    order = []
    while jobs := await desk.claim():
        order += [job.job_id for job in jobs]
        await desk.end(jobs)

    assert order == ["now", "later", "scheduled", "last"]


async def test_two_scheduled_jobs_of_a_chat_fall_due_in_the_order_of_their_times(desk: "Desk") -> None:
    await desk.add("second", group="s", order_key="c", in_s=20)
    await desk.add("first", group="s", order_key="c", in_s=10)
    await desk.elapse(21)
    await sweep(desk.conn)

    assert (await desk.state("first"), await desk.state("second")) == ("waiting", "blocked")


async def test_the_same_order_key_in_another_group_is_another_chat(desk: "Desk") -> None:
    await desk.add("a", group="s1", order_key="c")
    await desk.add("b", group="s2", order_key="c")

    assert sorted(await desk.claimed()) == ["a", "b"]


async def test_an_order_key_works_without_a_group(desk: "Desk") -> None:
    await desk.add("a1", "a2", order_key="a")
    await desk.add("b1", order_key="b")

    jobs = await desk.claim()
    assert sorted(job.job_id for job in jobs) == ["a1", "b1"]
    done = await desk.end(jobs)

    assert done.ready == {RECEIVE}
    assert await desk.claimed() == ["a2"]


async def test_cancelling_a_head_lets_its_chat_go_on(desk: "Desk") -> None:
    first, *_ = await desk.add("a", "b", "c", group="s", order_key="c")

    assert await cancel(desk.conn, pks=[first.pk]) == {first.pk}

    assert await desk.claimed() == ["b"]


async def test_cancelling_the_middle_of_a_chat_frees_nobody_early(desk: "Desk") -> None:
    await desk.add("a", "b", "c", group="s", order_key="c")
    jobs = await desk.claim()

    await cancel(desk.conn, job_id="b")
    assert await desk.claimed() == []
    await desk.end(jobs)

    assert await desk.claimed() == ["c"]


async def test_an_active_job_is_not_cancelled(desk: "Desk") -> None:
    await desk.add("a", group="s")
    jobs = await desk.claim()

    assert await cancel(desk.conn, pks=[jobs[0].pk]) == set()
    assert (await desk.end(jobs)).accepted


async def test_a_held_head_can_be_made_due_in_its_place(desk: "Desk") -> None:
    await desk.add("a", "b", group="s", order_key="c")
    [job] = await desk.claim()
    await desk.end([job], FinishKind.UNKNOWN, 3600)

    assert await make_due(desk.conn, [job.pk]) == 1
    assert await make_due(desk.conn, [job.pk]) == 0

    assert await desk.claimed() == ["a"]


async def test_a_scheduled_job_made_due_queues_up_behind_its_chat(desk: "Desk") -> None:
    [scheduled] = await desk.add("scheduled", group="s", order_key="c", in_s=3600)
    await desk.add("now", group="s", order_key="c")

    await make_due(desk.conn, [scheduled.pk])

    assert await desk.claimed() == ["now"]
    assert await desk.state("scheduled") == "blocked"


async def test_a_group_may_run_as_many_chats_at_once_as_its_cap(desk: "Desk") -> None:
    await set_group(desk.conn, RECEIVE, "s", cap=2)
    for chat in "abc":
        await desk.add(f"{chat}1", f"{chat}2", group="s", order_key=chat)

    jobs = await desk.claim()
    assert [job.job_id for job in jobs] == ["a1", "b1"]
    await desk.end(jobs[:1])

    assert await desk.claimed() == ["a2"]


async def test_a_dead_letter_that_runs_again_goes_on_after_a_younger_job(desk: "Desk") -> None:
    await desk.add("old", "young", group="s", order_key="c")
    lost = await desk.claim()
    await desk.end(lost, FinishKind.FAIL)
    jobs = await desk.claim()
    await retry(desk.conn, [lost[0].pk])

    # The claim that was lost ends in the same batch, and must not be taken for the job's next one.
    done = await desk.end([*lost, *jobs])

    assert done.accepted == {jobs[0].pk}
    assert await desk.claimed() == ["old"]
