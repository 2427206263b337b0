"""What an operator does to queues, and what the queues say of themselves."""

import dataclasses
from typing import TYPE_CHECKING

import pytest

from shared.domain.jobs import JobState, QueueName
from shared.queues import admin
from shared.queues.ledger import FinishKind, next_due_s, pause_group, retry, set_group
from shared.queues.metrics import metrics_of, queue_metrics
from shared.queues.policies import POLICIES, QUEUE_OF_ID

if TYPE_CHECKING:
    from tests.integration.ledger.conftest import Desk

RECEIVE = QueueName.MESSAGE_RECEIVE
SEND = QueueName.MESSAGE_SEND


async def test_a_paused_queue_takes_work_and_gives_none(desk: "Desk") -> None:
    await admin.pause_queue(desk.conn, RECEIVE)
    await desk.add("a")
    await desk.add("b", queue=SEND)

    assert await desk.claimed() == []
    assert await desk.claimed(queue=SEND) == ["b"]

    await admin.resume_queue(desk.conn, RECEIVE)
    assert await desk.claimed() == ["a"]


async def test_the_emergency_stop_stops_every_queue(desk: "Desk") -> None:
    await admin.pause_all(desk.conn)
    for queue in QueueName:
        await desk.add(f"job-{queue}", queue=queue)

    assert [await desk.claimed(queue=queue) for queue in QueueName] == [[]] * 7
    assert await next_due_s(desk.conn, list(QueueName)) is None

    await admin.resume_all(desk.conn)
    assert [len(await desk.claimed(queue=queue)) for queue in QueueName] == [1] * 7


async def test_clean_deletes_old_ended_jobs_in_batches(desk: "Desk") -> None:
    await desk.add(*[f"j{n}" for n in range(10)])
    jobs = await desk.claim(10)
    await desk.end(jobs[:8])
    await desk.end(jobs[8:], FinishKind.FAIL)
    await desk.conn.execute("UPDATE jobs SET finished_at = finished_at - interval '1 hour' WHERE pk < $1", jobs[5].pk)

    deleted = [
        await admin.clean(desk.conn, RECEIVE, JobState.COMPLETED, older_than_s=60, batch=3),
        await admin.clean(desk.conn, RECEIVE, JobState.COMPLETED, older_than_s=60, batch=3),
        await admin.clean(desk.conn, RECEIVE, JobState.COMPLETED, older_than_s=60, batch=3),
    ]

    assert deleted == [3, 2, 0]
    assert await desk.conn.fetchval("SELECT count(*) FROM jobs") == 5


async def test_clean_keeps_the_newest_however_old(desk: "Desk") -> None:
    async def clean() -> int:
        return await admin.clean(desk.conn, RECEIVE, JobState.COMPLETED, older_than_s=3600, keep=100)

    await desk.add(*[f"j{n}" for n in range(110)])
    await desk.end(await desk.claim(110))
    await desk.conn.execute("UPDATE jobs SET finished_at = finished_at - interval '2 hours'")

    assert await clean() == 10

    assert await clean() == 0
    assert await admin.get_job(desk.conn, "j0") is None
    assert await admin.get_job(desk.conn, "j109") is not None


async def test_living_jobs_are_never_cleaned(desk: "Desk") -> None:
    with pytest.raises(ValueError, match="waiting"):
        await admin.clean(desk.conn, RECEIVE, JobState.WAITING, older_than_s=0)


async def test_jobs_are_listed_by_state_newest_first_in_pages(desk: "Desk") -> None:
    await desk.add("a", "b", "c", group="s", order_key="k", data={"n": 1})

    first = await admin.list_jobs(desk.conn, RECEIVE, JobState.WAITING, limit=2)
    second = await admin.list_jobs(desk.conn, RECEIVE, JobState.WAITING, limit=2, before_pk=first[-1].pk)

    assert [[job.id for job in page] for page in (first, second)] == [["c", "b"], ["a"]]
    assert {job.state for job in first} == {JobState.WAITING}
    assert (first[0].queue, first[0].group, first[0].data) == (RECEIVE, "s", {"n": 1})


async def test_the_newest_job_of_an_id_is_found(desk: "Desk") -> None:
    await desk.add("a")
    await desk.end(await desk.claim())
    ended = await admin.get_job(desk.conn, "a")
    await desk.add("a")
    living = await admin.get_job(desk.conn, "a")

    assert ended is not None
    assert living is not None
    assert (ended.state, living.state) == (JobState.COMPLETED, JobState.WAITING)
    assert await admin.get_job(desk.conn, "unheard-of") is None


async def test_a_dead_letter_runs_again_with_a_new_budget_at_the_end_of_its_chat(desk: "Desk") -> None:
    await desk.add("dead", "next", "last", group="s", order_key="c", max_attempts=1)
    [dead] = await desk.claim()
    await desk.end([dead], FinishKind.RETRY, 1)

    assert await retry(desk.conn, [dead.pk]) == {dead.pk}

    order = []
    while jobs := await desk.claim():
        order += [(job.job_id, job.attempt) for job in jobs]
        await desk.end(jobs)
    assert order == [("next", 1), ("last", 1), ("dead", 1)]


async def test_a_dead_letter_is_not_retried_beside_a_living_job_of_its_id(desk: "Desk") -> None:
    for _ in range(2):
        await desk.add("a")
        await desk.end(await desk.claim(), FinishKind.FAIL)
    await desk.add("b")
    await desk.end(await desk.claim(), FinishKind.FAIL)
    await desk.add("b")

    revived = await admin.retry_failed(desk.conn, RECEIVE)

    assert len(revived) == 1
    assert sorted(await desk.claimed()) == ["a", "b"]


async def test_chosen_dead_letters_are_retried(desk: "Desk") -> None:
    await desk.add("a", "b", "c")
    await desk.end(await desk.claim(), FinishKind.FAIL)

    await admin.retry_failed(desk.conn, RECEIVE, job_ids=["b", "nobody"])
    assert await desk.claimed() == ["b"]
    await admin.retry_failed(desk.conn, RECEIVE, limit=1)
    assert await desk.claimed() == ["a"]


async def test_metrics_count_every_state(desk: "Desk") -> None:
    await desk.add("wait-1", "wait-2", group="s", order_key="c")
    await desk.add("active-1", "done-1", "fail-1", urgency=9)
    await desk.add("later", in_s=60)
    await pause_group(desk.conn, RECEIVE, "s", "connection_offline")
    jobs = {job.job_id: job for job in await desk.claim()}
    await desk.end([jobs["done-1"]])
    await desk.end([jobs["fail-1"]], FinishKind.FAIL)

    metrics = await metrics_of(desk.conn, RECEIVE)

    oldest_s = metrics.pop("oldest_waiting_seconds")
    assert 0 <= oldest_s < 60
    assert metrics == {
        "name": "message:receive",
        "waiting": 2,
        "active": 1,
        "delayed": 1,
        "completed": 1,
        "failed": 1,
        "parked": 2,
        "total": 4,
        "paused": False,
        "concurrency": 10,
        "utilization": 0.1,
        "processing_rate": round(2 / 60, 4),
        "failure_rate": 0.5,
        "dlq": 1,
    }


async def test_a_limited_group_is_parked(desk: "Desk") -> None:
    await set_group(desk.conn, RECEIVE, "s", rate_per_minute=1, burst=1)
    await desk.add("a", "b", "c", group="s")
    await desk.claim()

    assert (await metrics_of(desk.conn, RECEIVE))["parked"] == 2


async def test_metrics_of_empty_queues_are_zero_and_the_urgent_come_first(desk: "Desk") -> None:
    metrics = await queue_metrics(desk.conn)

    assert [one["name"] for one in metrics] == [queue.value for queue in QueueName]
    assert {one["oldest_waiting_seconds"] for one in metrics} == {None}
    assert {one["total"] for one in metrics} == {0}


async def test_the_ledger_starts_with_the_policies(desk: "Desk") -> None:
    rows = await desk.conn.fetch("SELECT * FROM queues ORDER BY id")

    found = {
        QUEUE_OF_ID[r["id"]]: (
            r["name"],
            r["priority"],
            r["group_cap"],
            r["rate_per_minute"],
            r["burst"],
            r["stalled_limit"],
        )
        for r in rows
    }
    assert found == {
        queue: (queue.value, p.priority, p.group_cap, p.rate_per_minute, p.burst, p.stalled_limit)
        for queue, p in POLICIES.items()
    }


async def test_a_changed_policy_holds_for_groups_that_set_nothing_of_their_own(desk: "Desk") -> None:
    changed = {**POLICIES, SEND: dataclasses.replace(POLICIES[SEND], group_cap=9, rate_per_minute=0)}
    await desk.add(*[f"a{n}" for n in range(20)], queue=SEND, group="s")

    await admin.apply_policies(desk.conn, changed)

    assert len(await desk.claim(20, queue=SEND)) == 9
