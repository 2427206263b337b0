"""What a claim and a finish read on a big ledger: pages of indexes, never the table."""

from typing import TYPE_CHECKING

import pytest

from shared.domain.jobs import QueueName
from shared.queues.ledger import next_due_s, sweep

if TYPE_CHECKING:
    from shared.db.pool import Connection
    from tests.integration.ledger.conftest import Desk

RECEIVE = QueueName.MESSAGE_RECEIVE
# A few hundred groups with five chats each, as many jobs without a group, and a history of ended ones.
FILL = """
INSERT INTO jobs (job_key, dedupe, queue, name, state, priority, max_attempts, grp, ord, position, data, finished_at,
                  run_at, expires_at)
SELECT 'fill-' || i, CASE WHEN i % 4 < 2 THEN 'live' END, 3, 'fill',
       CASE i % 4 WHEN 0 THEN CASE WHEN i / 4 < 1000 THEN 'waiting' ELSE 'blocked' END
                  WHEN 1 THEN 'waiting' ELSE 'completed' END,
       7, 4,
       CASE WHEN i % 4 = 0 THEN 'g' || (i / 4) % 200 END, CASE WHEN i % 4 = 0 THEN 'c' || (i / 4) % 1000 END,
       nextval('ledger_positions'), '{"text": "x"}', CASE WHEN i % 4 > 1 THEN now() END, now(), now() + interval '1 day'
  FROM generate_series(0, 99999) i
"""
FILL_GROUPS = """
INSERT INTO job_groups (queue, grp, pending, blocked)
SELECT queue, grp, count(*) FILTER (WHERE state = 'waiting'), count(*) FILTER (WHERE state = 'blocked')
  FROM jobs WHERE grp LIKE 'g%' GROUP BY queue, grp
"""
READS = """
SELECT coalesce(sum(seq_scan), 0) AS whole_scans, coalesce(sum(seq_tup_read + idx_tup_fetch), 0) AS rows
  FROM pg_stat_xact_user_tables WHERE relname IN ('jobs', 'job_groups')
"""


async def _reads(conn: "Connection") -> tuple[int, int]:
    row = await conn.fetchrow(READS)
    assert row is not None
    return row["whole_scans"], int(row["rows"])


async def _warm(desk: "Desk") -> None:
    """Run everything on the nearly empty ledger until its plans are cached."""
    for n in range(7):
        await desk.add(f"warm-{n}", group="warm", order_key="warm")
        await desk.add(f"warm-later-{n}", in_s=60)
        await desk.end(await desk.claim())
        await sweep(desk.conn)
        await next_due_s(desk.conn, [RECEIVE])


@pytest.mark.parametrize("is_analyzed", [True, False], ids=["fresh statistics", "plans made for an empty table"])
async def test_the_cost_of_a_claim_does_not_grow_with_the_ledger(desk: "Desk", *, is_analyzed: bool) -> None:
    # Autovacuum would hide what plans do before it comes.
    await desk.conn.execute("ALTER TABLE jobs SET (autovacuum_enabled = false)")
    await desk.conn.execute("VACUUM ANALYZE jobs, job_groups")
    await _warm(desk)
    await desk.conn.execute(FILL)
    await desk.conn.execute(FILL_GROUPS)
    if is_analyzed:
        await desk.conn.execute("ANALYZE jobs, job_groups")

    await desk.conn.execute("UPDATE jobs SET run_at = now() - interval '1 s' WHERE state = 'delayed'")

    async with desk.conn.transaction():
        start = await _reads(desk.conn)
        jobs = await desk.claim(100)
        claimed = await _reads(desk.conn)
        await desk.end(jobs)
        finished = await _reads(desk.conn)
        await desk.add("new", group="g1", order_key="c1")
        await sweep(desk.conn)
        await next_due_s(desk.conn, [RECEIVE])
        rest = await _reads(desk.conn)
        due = await desk.conn.fetchval("SELECT count(*) FROM jobs WHERE state = 'delayed'")

    assert (len(jobs), due) == (100, 0)
    assert rest[0] == start[0], "a whole table was read"
    assert claimed[1] - start[1] < 2500
    assert finished[1] - claimed[1] < 2500
    assert rest[1] - finished[1] < 2500
