"""Every way in which a claim ends."""

from typing import TYPE_CHECKING

from shared.domain.jobs import QueueName
from shared.queues.ledger import Finish, FinishKind, finish, sweep
from shared.queues.policies import POLICIES

if TYPE_CHECKING:
    from tests.integration.ledger.conftest import Desk

RECEIVE = QueueName.MESSAGE_RECEIVE
SEND = QueueName.MESSAGE_SEND


async def test_a_done_job_is_completed_with_its_result(desk: "Desk") -> None:
    await desk.add("a", group="s")
    [job] = await desk.claim()

    end = Finish(pk=job.pk, fence=job.fence, queue=RECEIVE, kind=FinishKind.DONE, result={"wire_id": "X"})
    done = await finish(desk.conn, [end])

    assert done.accepted == {job.pk}
    row = await desk.row("a")
    assert (row["state"], row["result"], row["attempt"]) == ("completed", {"wire_id": "X"}, 1)
    assert row["finished_at"] is not None


async def test_a_claimed_job_carries_what_was_enqueued(desk: "Desk") -> None:
    await desk.add("a", group="s", order_key="c", data={"n": 1, "é": None}, priority=6, urgency=3, max_attempts=2)

    [job] = await desk.claim()

    assert (job.job_id, job.queue, job.name, job.data) == ("a", RECEIVE, "test", {"n": 1, "é": None})
    assert (job.group, job.order_key, job.priority, job.max_attempts) == ("s", "c", 6, 2)
    assert (job.attempt, job.stalled) == (1, 0)


async def test_a_retry_is_delayed_and_runs_again_when_it_is_due(desk: "Desk") -> None:
    await desk.add("a", group="s")

    done = await desk.end(await desk.claim(), FinishKind.RETRY, 20)

    assert await desk.state("a") == "delayed"
    assert done.next_due_s == 20
    assert await desk.claimed() == []
    await desk.elapse(21)
    await sweep(desk.conn)
    [job] = await desk.claim()
    assert job.attempt == 2


async def test_a_retry_without_delay_is_claimable_at_once(desk: "Desk") -> None:
    await desk.add("a")

    done = await desk.end(await desk.claim(), FinishKind.RETRY)

    assert done.ready == {RECEIVE}
    assert await desk.claimed() == ["a"]


async def test_five_delays_are_six_attempts(desk: "Desk") -> None:
    policy = POLICIES[SEND]
    await desk.add("a", queue=SEND, group="s")

    waits = []
    while jobs := await desk.claim(queue=SEND):
        delay_s = policy.delay_s(jobs[0].attempt)
        done = await desk.end(jobs, FinishKind.RETRY, delay_s)
        waits.append(delay_s)
        await desk.elapse(delay_s)
        await sweep(desk.conn)

    assert waits[:5] == [2, 6, 18, 54, 162]
    assert len(waits) == 6
    assert done.dead == done.accepted != set()
    assert await desk.state("a") == "failed"


async def test_a_park_gives_attempt_and_token_back_and_keeps_the_place(desk: "Desk") -> None:
    await desk.add("a", "b", queue=SEND, group="s", order_key="c")
    before = (await desk.group("s"))["tat"]
    jobs = await desk.claim(queue=SEND)
    assert (await desk.group("s"))["tat"] > before

    done = await desk.end(jobs, FinishKind.PARK)

    assert done.ready == {SEND}
    row = await desk.row("a")
    assert (row["state"], row["attempt"]) == ("waiting", 0)
    assert (await desk.group("s"))["pending"] == 1
    tokens = await desk.conn.fetchval("SELECT ledger_tokens_v1(tat, 80, 10) FROM job_groups WHERE grp = 's'")
    assert tokens == 10
    assert await desk.claimed(queue=SEND) == ["a"]


async def test_a_snooze_is_delayed_in_its_place_and_gives_the_attempt_back(desk: "Desk") -> None:
    await desk.add("a", "b", group="s", order_key="c")

    await desk.end(await desk.claim(), FinishKind.SNOOZE, 5)

    row = await desk.row("a")
    assert (row["state"], row["attempt"]) == ("delayed", 0)
    assert await desk.claimed() == []


async def test_a_discard_is_cancelled_or_a_dead_letter(desk: "Desk") -> None:
    await desk.add("a", "b", group="s")
    first, second = await desk.claim()

    cancelled = await desk.end([first], FinishKind.CANCEL)
    failed = await desk.end([second], FinishKind.FAIL)

    assert (await desk.state("a"), await desk.state("b")) == ("cancelled", "failed")
    assert (cancelled.dead, failed.dead) == (set(), {second.pk})


async def test_an_unknown_holds_its_chat_and_is_no_dead_letter_even_at_the_last_attempt(desk: "Desk") -> None:
    await desk.add("a", "b", group="s", order_key="c", max_attempts=1)
    [job] = await desk.claim()
    assert job.is_last_attempt

    done = await desk.end([job], FinishKind.UNKNOWN, 30)

    assert done.dead == set()
    row = await desk.row("a")
    assert (row["state"], row["attempt"]) == ("delayed", 1)
    assert await desk.claimed() == []
    await desk.elapse(31)
    await sweep(desk.conn)
    [job] = await desk.claim()
    assert (job.job_id, job.attempt, job.is_last_attempt) == ("a", 2, True)
    assert (await desk.end([job], FinishKind.RETRY, 1)).dead == {job.pk}
    assert await desk.claimed() == ["b"]


async def test_the_end_of_a_head_makes_its_follower_claimable(desk: "Desk") -> None:
    await desk.add("a", "b", "c", group="s", order_key="c")
    for kind, follower in ((FinishKind.DONE, "b"), (FinishKind.FAIL, "c")):
        done = await desk.end(await desk.claim(), kind)

        assert done.ready == {RECEIVE}
        assert await desk.state(follower) == "waiting"


async def test_finishing_twice_changes_nothing_the_second_time(desk: "Desk") -> None:
    await desk.add("a", "b", group="s", order_key="c")
    jobs = await desk.claim()
    await desk.end(jobs)

    again = await desk.end(jobs, FinishKind.FAIL)

    assert again.accepted == set()
    assert await desk.state("a") == "completed"


async def test_one_batch_finishes_jobs_of_many_kinds_and_queues(desk: "Desk") -> None:
    await desk.add("a", "b", "c", group="s")
    await desk.add("d", "e", group="t", order_key="k")
    await desk.add("f")
    await desk.add("g", queue=SEND, group="s")
    jobs = {job.job_id: job for job in [*await desk.claim(), *await desk.claim(queue=SEND)]}
    kinds = {
        "a": FinishKind.DONE,
        "b": FinishKind.RETRY,
        "c": FinishKind.PARK,
        "d": FinishKind.CANCEL,
        "f": FinishKind.SNOOZE,
        "g": FinishKind.FAIL,
    }

    done = await finish(
        desk.conn,
        [
            Finish(pk=jobs[name].pk, fence=jobs[name].fence, queue=jobs[name].queue, kind=kind, delay_s=9)
            for name, kind in kinds.items()
        ],
    )

    assert len(done.accepted) == 6
    assert done.ready == {RECEIVE}
    states = {name: await desk.state(name) for name in "abcdefg"}
    assert states == {
        "a": "completed",
        "b": "delayed",
        "c": "waiting",
        "d": "cancelled",
        "e": "waiting",
        "f": "delayed",
        "g": "failed",
    }


async def test_an_error_is_kept_until_the_job_is_done(desk: "Desk") -> None:
    error = {"code": "HOST_UNREACHABLE", "detail": "no answer", "retryable": True}
    await desk.add("a")
    [job] = await desk.claim()
    await finish(desk.conn, [Finish(pk=job.pk, fence=job.fence, queue=RECEIVE, kind=FinishKind.RETRY, error=error)])
    assert (await desk.row("a"))["error"] == error

    await desk.end(await desk.claim())

    assert (await desk.row("a"))["error"] is None
