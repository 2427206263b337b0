"""A job past its time never runs; the sweep ends it and says so."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from shared.domain.jobs import QueueName
from shared.queues.ledger import EndedWhy, FinishKind, next_due_s, sweep

if TYPE_CHECKING:
    from tests.integration.ledger.conftest import Desk

RECEIVE = QueueName.MESSAGE_RECEIVE


def _in(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


async def test_an_expired_job_is_never_claimed(desk: "Desk") -> None:
    await desk.add("grouped", group="s", expires_at=_in(-1))
    await desk.add("ungrouped", expires_at=_in(-1))

    assert await desk.claimed() == []


async def test_the_sweep_ends_expired_jobs_wherever_they_wait(desk: "Desk") -> None:
    await desk.add("head", "blocked", group="s", order_key="c", expires_at=_in(60), data={"message_id": "m"})
    await desk.add("ungrouped", expires_at=_in(60))
    await desk.add("scheduled", group="s", order_key="c", in_s=50, expires_at=_in(60))
    await desk.add("alive", group="s", order_key="c", expires_at=_in(6000))
    await desk.add("retrying", group="t", expires_at=_in(60))
    jobs = [job for job in await desk.claim() if job.job_id == "retrying"]
    await desk.end(jobs, FinishKind.RETRY, 600)
    await desk.elapse(61)

    swept = await sweep(desk.conn)

    # `head` and `ungrouped` were claimed before they expired: they run, and their outcome counts.
    assert {e.job_id for e in swept.ended} == {"blocked", "scheduled", "retrying"}
    assert {e.why for e in swept.ended} == {EndedWhy.EXPIRED}
    row = await desk.row("blocked")
    assert (row["state"], row["error"]["code"]) == ("cancelled", "EXPIRED")


async def test_the_end_of_an_expired_head_lets_its_chat_go_on(desk: "Desk") -> None:
    await desk.add("old1", "old2", group="s", order_key="c", expires_at=_in(10))
    await desk.add("new1", "new2", group="s", order_key="c")
    await desk.elapse(11)

    swept = await sweep(desk.conn)

    assert [e.job_id for e in swept.ended] == ["old1", "old2"]
    assert swept.ready == {RECEIVE}
    assert await desk.claimed() == ["new1"]


async def test_groups_full_of_expired_jobs_do_not_fill_the_claim(desk: "Desk") -> None:
    for n in range(5):
        await desk.add(f"old{n}", group=f"old{n}", expires_at=_in(-1))
    await desk.add("alive", group="z")

    claims = [await desk.claimed(2) for _ in range(3)]

    assert ["alive"] in claims


async def test_expiry_is_a_time_to_come_back(desk: "Desk") -> None:
    await desk.conn.execute("UPDATE queues SET paused = true")
    await desk.add("a", group="s", expires_at=_in(50))

    due_s = await next_due_s(desk.conn, [RECEIVE])

    assert due_s is not None
    assert 40 < due_s <= 50
