"""The numbers that the ledger keeps instead of counting: exact whatever touches a job, folded by one at a time."""

from typing import TYPE_CHECKING

from shared.domain.jobs import QueueName
from shared.queues.ledger import FinishKind, pause_group, retry, sweep
from shared.queues.metrics import metrics_of, queue_metrics

if TYPE_CHECKING:
    from shared.db.pool import Connection
    from tests.integration.ledger.conftest import Desk

RECEIVE = QueueName.MESSAGE_RECEIVE
CHANGES = "SELECT count(*) FROM job_count_changes"


async def _some_of_everything(desk: "Desk") -> None:
    await desk.add("head", "behind-1", "behind-2", group="s", order_key="c")
    await desk.add("done", "dead", "runs", urgency=9)
    await desk.add("later", in_s=60)
    jobs = {job.job_id: job for job in await desk.claim(3)}
    await desk.end([jobs["done"]])
    await desk.end([jobs["dead"]], FinishKind.FAIL)
    await pause_group(desk.conn, RECEIVE, "s", "connection_offline")


async def test_a_fold_changes_no_number(desk: "Desk") -> None:
    await _some_of_everything(desk)
    before = await metrics_of(desk.conn, RECEIVE)
    assert await desk.conn.fetchval(CHANGES) > 0

    await sweep(desk.conn)

    assert await desk.conn.fetchval(CHANGES) == 0
    after = await metrics_of(desk.conn, RECEIVE)
    for numbers in (before, after):
        numbers.pop("oldest_waiting_seconds")
    assert after == before


async def test_a_sweep_does_not_wait_for_another_fold(desk: "Desk", other: "Connection") -> None:
    await desk.add("a")
    async with other.transaction():
        await sweep(other)
        await desk.add("b")

        await sweep(desk.conn)

        assert (await metrics_of(desk.conn, RECEIVE))["waiting"] == 2
    assert (await metrics_of(desk.conn, RECEIVE))["waiting"] == 2


async def test_work_that_is_rolled_back_was_never_counted(desk: "Desk") -> None:
    rolled_back = desk.conn.transaction()
    await rolled_back.start()
    await desk.add("a", group="s")
    await sweep(desk.conn)
    await rolled_back.rollback()

    assert (await metrics_of(desk.conn, RECEIVE))["total"] == 0


async def test_rows_changed_by_hand_are_counted_too(desk: "Desk") -> None:
    await desk.add("a", "b", "c", group="s", order_key="k")
    await desk.add("d")

    await desk.conn.execute("DELETE FROM jobs WHERE job_key IN ('c', 'd')")

    await pause_group(desk.conn, RECEIVE, "s", "connection_offline")
    numbers = await metrics_of(desk.conn, RECEIVE)
    assert (numbers["waiting"], numbers["parked"]) == (2, 2)


async def test_a_recount_mends_what_was_changed_behind_the_triggers(desk: "Desk") -> None:
    await _some_of_everything(desk)
    right = await queue_metrics(desk.conn)
    await desk.conn.execute("UPDATE job_counts SET jobs = jobs + 5")
    await desk.conn.execute("UPDATE job_count_changes SET jobs = jobs + 5")

    await desk.conn.execute("SELECT ledger_recount_v1()")

    found = await queue_metrics(desk.conn)
    names = ("name", "waiting", "active", "delayed", "completed", "failed", "parked")
    assert [[one[name] for name in names] for one in found] == [[one[name] for name in names] for one in right]


async def test_a_dead_letter_that_runs_again_stays_in_the_rate_of_failures(desk: "Desk") -> None:
    await desk.add("a")
    [job] = await desk.claim()
    await desk.end([job], FinishKind.FAIL)

    await retry(desk.conn, [job.pk])

    numbers = await metrics_of(desk.conn, RECEIVE)
    assert (numbers["dlq"], numbers["failure_rate"]) == (0, 1.0)
