"""What the ledger's statements read and sort: the same few pages of indexes on an empty ledger and on a big one.

Plans are cached, often while the ledger is nearly empty, and live as long as their connection. So each call is
looked at empty, then with many jobs by the same plans, then with new statistics.
"""

from typing import TYPE_CHECKING

from shared.domain.jobs import JobState, QueueName
from shared.queues import admin
from shared.queues.ledger import (
    FinishKind,
    cancel,
    heartbeat,
    make_due,
    next_due_s,
    pause_group,
    release,
    retry,
    set_group,
    sweep,
)
from shared.queues.metrics import queue_metrics
from tests.integration.ledger.conftest import Desk
from tests.integration.ledger.explained import explained

if TYPE_CHECKING:
    from shared.db.pool import Connection

RECEIVE, SEND = QueueName.MESSAGE_RECEIVE, QueueName.MESSAGE_SEND
JOBS = 120_000
# A quarter each: 1,000 chats in 200 groups; jobs without a group; two kinds of ended jobs.
FILL = """
INSERT INTO jobs (job_key, dedupe, queue, name, state, priority, max_attempts, grp, ord, position, data, finished_at,
                  run_at, expires_at)
SELECT 'fill-' || i, CASE WHEN i % 4 < 2 THEN 'live' END, 3, 'fill',
       CASE i % 4 WHEN 0 THEN CASE WHEN i / 4 < 1000 THEN 'waiting' ELSE 'blocked' END
                  WHEN 1 THEN 'waiting' WHEN 2 THEN 'completed' ELSE 'failed' END,
       7, 4,
       CASE WHEN i % 4 = 0 THEN 'g' || (i / 4) % 200 END, CASE WHEN i % 4 = 0 THEN 'c' || (i / 4) % 1000 END,
       nextval('ledger_positions'), '{"text": "x"}',
       CASE WHEN i % 4 > 1 THEN now() - interval '1 hour' - i * interval '1 ms' END, now(), now() + interval '1 day'
  FROM generate_series(0, $1::int - 1) i
"""
FILL_GROUPS = """
INSERT INTO job_groups (queue, grp, pending)
SELECT queue, grp, count(*) FILTER (WHERE state = 'waiting')
  FROM jobs WHERE grp LIKE 'g%' GROUP BY queue, grp
"""
# One claim asks for 100 jobs of a queue; a statement may look at each a few times.
FEW = 1500


async def _every_call(desk: Desk, meddler: "Connection", name: str) -> None:
    """Each call of the ledger's hot path, with work to do; what no call does is done by `meddler`."""
    await desk.add(*[f"{name}-{n}" for n in range(20)], f"{name}-3", group=f"{name}-g", order_key="k")
    await desk.add(*[f"{name}-plain-{n}" for n in range(20)], urgency=9)
    [later, due, _] = await desk.add(f"{name}-later", f"{name}-due", f"{name}-soon", in_s=60)
    jobs = await desk.claim(100)
    await heartbeat(desk.conn, {job.pk: job.fence for job in jobs})
    kinds = list(FinishKind)
    for n, kind in enumerate(kinds):
        await desk.end(jobs[n + 1 :: len(kinds) + 1], kind, 5)
    await release(desk.conn, {job.pk: job.fence for job in jobs[len(kinds) + 1 :: len(kinds) + 1]})
    await meddler.execute("UPDATE jobs SET lease_until = now() WHERE fence = $1", jobs[0].fence)
    await meddler.execute("UPDATE jobs SET run_at = now() WHERE job_key = $1", f"{name}-due")
    await meddler.execute("UPDATE jobs SET expires_at = now() WHERE job_key = $1", f"{name}-soon")
    assert f"{name}-soon" in {end.job_id for end in (await sweep(desk.conn)).ended}
    assert await cancel(desk.conn, pks=[due.pk])
    assert await make_due(desk.conn, [later.pk]) == 1
    assert await retry(desk.conn, [job.pk for job in jobs])
    await next_due_s(desk.conn, [RECEIVE, SEND])


async def test_no_call_reads_or_sorts_more_when_the_ledger_is_big(conn: "Connection", other: "Connection") -> None:
    desk = Desk(conn)  # without the check of every row at the end
    # Autovacuum would hide what plans do before it comes.
    await other.execute("ALTER TABLE jobs SET (autovacuum_enabled = false)")
    async with explained(desk.conn) as empty:
        await _every_call(desk, other, "empty")
    for n in range(6):
        await _every_call(desk, other, f"warm-{n}")

    await other.execute(FILL, JOBS)
    await other.execute(FILL_GROUPS)
    async with explained(desk.conn) as big:
        await _every_call(desk, other, "big")
        await _clean(desk)
    await other.execute("ANALYZE jobs, job_groups")
    async with explained(desk.conn) as analyzed:
        await _every_call(desk, other, "analyzed")
        await _clean(desk)
    async with explained(desk.conn) as numbers:
        await queue_metrics(desk.conn)

    for seen in (empty, big, analyzed):
        assert seen.whole_tables() == set()
        assert seen.big_sorts(at_most=FEW) == set()
        assert seen.rows_of("jobs") < 10 * FEW
    # The oldest of each queue that waits.
    assert numbers.rows_of("jobs") <= len(QueueName)


async def _clean(desk: Desk) -> None:
    for state in (JobState.COMPLETED, JobState.FAILED):
        assert await admin.clean(desk.conn, RECEIVE, state, older_than_s=60, keep=100, batch=50) == 50


async def test_a_paused_or_limited_session_with_10_000_waiting_costs_a_claim_nothing(desk: Desk) -> None:
    for group in ("paused", "limited"):
        await desk.add(*[f"{group}-{n}" for n in range(5000)], queue=SEND, group=group)
        await desk.add(*[f"{group}-chat-{n}" for n in range(5000)], queue=SEND, group=group, order_key="c")
    await pause_group(desk.conn, SEND, "paused", "connection_offline")
    await set_group(desk.conn, SEND, "limited", rate_per_minute=1, burst=1)
    await desk.claim(queue=SEND)
    await desk.add("free", queue=SEND, group="free")

    async with explained(desk.conn) as seen:
        assert await desk.claimed(queue=SEND) == ["free"]

    assert seen.rows_of("jobs") < 20
    assert seen.rows_of("job_groups") < 20
